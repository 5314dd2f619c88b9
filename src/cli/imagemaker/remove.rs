//! `podseal imagemaker remove`.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::{Failure, entries, home, withdraw};
use crate::cli::args::imagemaker::RemoveArguments;
use crate::cli::output::print;
use crate::signing::makers::{Maker, Makers, State};

pub(super) fn run(arguments: &RemoveArguments) -> Result<ExitCode, Failure> {
    let mut makers = Makers::open(&arguments.host.dir)?;
    let maker = makers.get(&arguments.name)?.clone();
    let in_use: Vec<_> =
        maker.keys.iter().filter(|key| key.state != State::Revoked).map(|key| key.fingerprint.as_str()).collect();
    if !in_use.is_empty() && !arguments.force {
        // Of several keys revoke wants to be told which.
        let one = |key: &&str| format!("podseal imagemaker revoke {} --fingerprint {key}", maker.name);
        return Err(Failure::Failed(format!(
            "the maker {} has keys that still verify ({}): {} ends them for good everywhere, --force only takes them out of \
             the key directory",
            maker.name,
            in_use.join(", "),
            in_use.iter().map(one).collect::<Vec<_>>().join(" && ")
        )));
    }
    makers.remove(&maker.name, arguments.keep_key_file)?;
    print(&said(&makers, &maker, arguments.keep_key_file));
    if arguments.entries.apply {
        withdraw::withdraw(&maker, &arguments.entries)?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&format!(
        "as far as it is known here, one entry names the key file; take it out of the ClusterRegistrySecurityPolicy {} when no \
         image of {} is to run by it any more (kubectl edit crsp {0}), and write the nodes' files anew:\n",
        arguments.entries.policy_name, maker.path
    ));
    print(&entries::yaml(&[maker], &arguments.entries)?);
    Ok(ExitCode::SUCCESS)
}

/// What became of the file, of the secret keys, and of what they signed.
fn said(makers: &Makers, maker: &Maker, kept: bool) -> String {
    let (name, file, path) = (&maker.name, makers.key_file(&maker.key_file).display().to_string(), &maker.path);
    let others = makers.has_key_files();
    let mut text = if kept {
        format!(
            "the maker {name} is removed, its key file {file} stays\n\
             images that it signed verify as before: revoked and expired keys refuse theirs, the others go on\n"
        )
    } else {
        let way = if others {
            "the controller deletes its Secret when it finds the file gone".to_owned()
        } else {
            // An empty directory looks like one that is not mounted.
            format!(
                "it was the last key file, and the controller takes no last one away by itself: podseal keys remove {}",
                maker.key_file
            )
        };
        format!(
            "the maker {name} and its key file {file} are removed\n{way}\n\
             then no image of {path} that it signed is admitted while a policy asks for its key; Pods that run go on\n"
        )
    };
    for key in &maker.keys {
        let delete = home::deletion(maker.gnupg_home.as_deref(), &key.fingerprint);
        let _ = writeln!(text, "its secret key stays in {}; to delete it for good: {delete}", home::place(maker));
    }
    text
}
