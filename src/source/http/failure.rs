//! Why a request got no answer, in words for whoever can do something about it.

use std::cell::Cell;
use std::error::Error;

use rustls::AlertDescription;
use url::Url;

use super::{Failure, Home};
use crate::fault::{Fault, FaultKind, causes};
use crate::source::UpstreamKind;
use crate::source::guard::Refused;

pub(super) const NO_CERTIFICATE_IN_THE_CLEAR: &str =
    "a client certificate cannot be shown over plain HTTP: give the server TLS, or leave the certificate out";

pub(super) fn refused(home: &Home<'_>) -> Fault {
    home.fault(
        FaultKind::AddressRefused,
        "leads to an address that is refused (loopback, link-local, metadata service or API server); \
         an administrator can allow it",
    )
}

/// Everything but name resolution, refused addresses and certificates may mean that nobody speaks TLS there.
pub(super) fn may_be_plain(error: &reqwest::Error) -> bool {
    error.is_connect() && !error.is_dns() && !is_refused(error) && !is_certificate(error)
}

pub(super) fn failure(home: &Home<'_>, url: &Url, error: reqwest::Error) -> Failure {
    if is_refused(&error) {
        return refused(home).into();
    }
    let certificate = home.certificate(url).is_some();
    if let Some(what) = alert(&error).and_then(|alert| refused_certificate(alert, certificate)) {
        return home.fault(FaultKind::Unauthorized, what).with_detail(chain(error)).into();
    }
    let at = if home.owns(url) { String::new() } else { format!(" (on {})", url.host_str().unwrap_or_default()) };
    let (what, again) = if is_certificate(&error) {
        ("the TLS certificate is not trusted; name its authority with caRef, by hand with --ca-file", false)
    } else if error.is_dns() {
        ("the host name does not resolve", false)
    } else if speaks_no_tls(&error) {
        (no_tls(home, url), false)
    } else if error.is_connect() {
        ("the server cannot be reached", false)
    } else if certificate && !error.is_timeout() {
        // A server may close before its reason is read.
        ("the connection broke off; the server may not accept the client certificate", !error.is_builder())
    } else {
        ("the connection broke off", !error.is_builder() && !error.is_timeout())
    };
    let fault = home.fault(FaultKind::Unreachable, format_args!("{what}{at}")).with_detail(chain(error));
    Failure { fault, again }
}

/// What somebody can do about a server that answers without TLS: what allows plain HTTP differs by who named the server.
fn no_tls(home: &Home<'_>, url: &Url) -> &'static str {
    match home.kind {
        _ if home.certificate(url).is_some() => NO_CERTIFICATE_IN_THE_CLEAR,
        UpstreamKind::Registry if home.owns(url) => {
            "the server speaks plain HTTP; insecure: true allows that, by hand --insecure"
        }
        UpstreamKind::Notary if home.owns(url) => {
            "the server speaks plain HTTP; a notary URL that begins with http:// allows that"
        }
        UpstreamKind::Store => "the server speaks plain HTTP; a store's URL that begins with http:// allows that",
        _ => "the server speaks plain HTTP, which is not followed",
    }
}

fn is_refused(error: &reqwest::Error) -> bool {
    any_cause(error, &|cause| cause.is::<Refused>())
}

fn is_certificate(error: &reqwest::Error) -> bool {
    any_cause(error, &|cause| matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))))
}

/// What the other end said when it ended the connection (RFC 8446, section 6.2).
fn alert(error: &reqwest::Error) -> Option<AlertDescription> {
    let found = Cell::new(None);
    any_cause(error, &|cause| {
        if let Some(rustls::Error::AlertReceived(alert)) = cause.downcast_ref() {
            found.set(Some(*alert));
        }
        found.get().is_some()
    });
    found.get()
}

/// What an alert says of the client certificate, if it speaks of that; `shown`: there was one.
fn refused_certificate(alert: AlertDescription, shown: bool) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateRequired if shown => "the server does not see the client certificate as one",
        AlertDescription::CertificateRequired => "the server asks for a client certificate, and none is shown to it",
        AlertDescription::UnknownCA if shown => {
            "the server refuses the client certificate: it does not know the authority that issued it"
        }
        AlertDescription::CertificateExpired if shown => {
            "the server refuses the client certificate: by its clock it is expired or not valid yet"
        }
        AlertDescription::CertificateRevoked if shown => "the server refuses the client certificate: it is revoked",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError
            if shown =>
        {
            "the server refuses the client certificate, and does not say why; its log may"
        }
        _ => return None,
    })
}

/// Whether the first bytes of the answer are no TLS record: in practice an HTTP server that complains in the clear.
fn speaks_no_tls(error: &reqwest::Error) -> bool {
    let no_record = rustls::InvalidMessage::InvalidContentType;
    any_cause(error, &|cause| matches!(cause.downcast_ref(), Some(rustls::Error::InvalidMessage(m)) if *m == no_record))
}

/// Searches the causes. An I/O error wraps its cause without naming it as its source.
fn any_cause(error: &(dyn Error + 'static), test: &dyn Fn(&(dyn Error + 'static)) -> bool) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    test(error)
        || wrapped.is_some_and(|inner| any_cause(inner, test))
        || error.source().is_some_and(|source| any_cause(source, test))
}

/// The causes for the log, without the URL, whose query may be a signature.
pub(super) fn chain(error: reqwest::Error) -> String {
    causes(&error.without_url())
}
