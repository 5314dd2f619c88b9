//! `--client-cert` and `--client-key`: read before anything is signed.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::context::read;
use crate::cli::args::sign::DestinationArguments;
use crate::signing::secret_file::SecretFile;
use crate::source::certificate::{ClientCertificate, ClientCertificateError, Presented};
use crate::source::lookaside::StoreUrl;

/// Bytes of a file with one private key.
const MAX_KEY_FILE: usize = 1 << 20;

/// The client certificate, if one is given, and if it is of use.
pub(super) fn given(arguments: &DestinationArguments) -> Result<Option<Arc<ClientCertificate>>, String> {
    let (Some(certificate), Some(key)) = (&arguments.client_cert, &arguments.client_key) else { return Ok(None) };
    if arguments.upload.is_none() && !arguments.extension {
        return Err("--client-cert: it is for --upload or --extension, and nobody else is shown it".to_owned());
    }
    open(certificate, key).map(Some)
}

fn open(certificate: &Path, key: &Path) -> Result<Arc<ClientCertificate>, String> {
    let of_key = |why: &dyn std::fmt::Display| format!("--client-key {}: {why}", key.display());
    let chain = read("--client-cert", certificate)?;
    let file = SecretFile::read(key, MAX_KEY_FILE).map_err(|why| of_key(&why))?;
    let read = ClientCertificate::read(&chain, &file.content, SystemTime::now());
    match read {
        Err(ClientCertificateError::Certificate(why)) => Err(format!("--client-cert {}: {why}", certificate.display())),
        Err(ClientCertificateError::Key(why)) => Err(of_key(&why)),
        Ok(read) => file.check().map(|()| Arc::new(read)).map_err(|why| of_key(&why)),
    }
}

/// For the store of `--upload`, and for it alone.
pub(super) fn for_store(certificate: &Arc<ClientCertificate>, store: &StoreUrl) -> Result<Presented, String> {
    Presented::to_store(certificate, store).ok_or_else(|| {
        format!(
            "--client-cert: a client certificate cannot be shown over plain HTTP: give --upload an https URL instead of \
             {store}"
        )
    })
}
