//! `podseal imagemaker remove`.

use std::process::ExitCode;

use super::{Failure, entries, gnupg_of};
use crate::cli::args::imagemaker::RemoveArguments;
use crate::cli::output::print;
use crate::signing::makers::{Makers, State};

pub(super) fn run(arguments: &RemoveArguments) -> Result<ExitCode, Failure> {
    let mut makers = Makers::open(&arguments.host.dir)?;
    let maker = makers.get(&arguments.name)?.clone();
    let in_use: Vec<_> =
        maker.keys.iter().filter(|key| key.state != State::Revoked).map(|key| key.fingerprint.as_str()).collect();
    if !in_use.is_empty() && !arguments.force {
        return Err(Failure::Failed(format!(
            "the maker {0} has keys that still verify ({1}): podseal imagemaker revoke {0} ends them for good everywhere, \
             --force only takes them out of the key directory",
            maker.name,
            in_use.join(", ")
        )));
    }
    makers.remove(&maker.name)?;
    print(&format!("the maker {} and its key file {} are removed\n", maker.name, maker.key_file));
    print(&format!("its secret keys stay in {}, untouched\n", gnupg_of(&maker).place()));
    let others = makers.key_files().is_ok_and(|files| !files.is_empty());
    print(&if others {
        format!("the controller deletes the Secret of {} when it finds the file gone\n", maker.key_file)
    } else {
        // An empty directory looks like one that is not mounted.
        format!(
            "it was the last key file, and the controller takes no last one away by itself: podseal keys remove {}\n",
            maker.key_file
        )
    });
    if arguments.entries.apply {
        entries::withdraw(&maker, &arguments.entries)?;
    } else {
        print(&format!(
            "take this out of the ClusterRegistrySecurityPolicy {} when no image of {} is to run by it any more:\n",
            arguments.entries.policy_name, maker.path
        ));
        print(&entries::yaml(&[maker], &arguments.entries)?);
    }
    Ok(ExitCode::SUCCESS)
}
