//! Whether registry and store are this host: signatures laid down here are of use only where the store serves them.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use std::sync::mpsc::channel;
use std::time::Duration;

/// How long one name may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What names lead elsewhere, a line each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Elsewhere {
    /// Those that ought to lead here.
    pub(super) wrong: Vec<String>,
    /// Those of registries elsewhere.
    pub(super) notes: Vec<String>,
}

/// Looks at the registries (`host[:port]`) and the stores (addresses) of makers. A store, and a registry whose name ends in
/// `.local` or has no dot, ought to lead here; another registry may well be elsewhere.
pub(super) fn look<'a>(
    registries: impl IntoIterator<Item = &'a str>,
    stores: impl IntoIterator<Item = &'a str>,
) -> Elsewhere {
    let mut names: BTreeMap<String, bool> = BTreeMap::new();
    for registry in registries {
        let host = without_port(registry).to_owned();
        let own = has_local_name(&host);
        *names.entry(host).or_default() |= own;
    }
    for store in stores {
        let host = url::Url::parse(store).ok().and_then(|url| url.host_str().map(str::to_owned));
        names.insert(host.unwrap_or_else(|| store.to_owned()), true);
    }
    let mut found = Elsewhere::default();
    for (name, own) in names {
        let place = match addresses(&name) {
            Ok(addresses) if addresses.iter().any(|address| is_here(*address)) => continue,
            Ok(addresses) => {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                format!("{name} leads to {}, and not to this host", addresses.join(", "))
            }
            Err(why) => format!("{name} does not resolve ({why})"),
        };
        if own { &mut found.wrong } else { &mut found.notes }.push(place);
    }
    found
}

fn without_port(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    }
}

fn has_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    !host.contains('.') || host.to_ascii_lowercase().ends_with(".local")
}

fn addresses(host: &str) -> Result<Vec<IpAddr>, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse() {
        return Ok(vec![address]);
    }
    // The system's resolver knows no deadline.
    let (sender, receiver) = channel();
    let name = bare.to_owned();
    std::thread::spawn(move || {
        let found = (name.as_str(), 0u16).to_socket_addrs();
        let _ = sender.send(found.map(|all| all.map(|address| address.ip()).collect()).map_err(|e| e.to_string()));
    });
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
}

/// An address can be bound on the host that has it.
fn is_here(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_this_host_is_not_mentioned() {
        let found = look(["127.0.0.1:5000", "localhost", "[::ffff:127.0.0.1]:443"], ["http://localhost:81/sigstore/"]);
        assert!(found.wrong.is_empty(), "{found:?}");
    }

    #[test]
    fn a_local_name_elsewhere_is_wrong_and_a_public_registry_is_noted() {
        // RFC 5737 and RFC 6761: nobody has these.
        let found =
            look(["203.0.113.1:5000", "podseal-nowhere.invalid", "podseal-nowhere.local"], ["http://203.0.113.2/x"]);
        assert_eq!(found.wrong.len(), 2, "{found:?}");
        assert!(found.wrong.iter().any(|line| line.contains("203.0.113.2, and not to this host")), "{found:?}");
        assert!(found.wrong.iter().any(|line| line.starts_with("podseal-nowhere.local does not resolve")), "{found:?}");
        assert_eq!(found.notes.len(), 2, "{found:?}");
    }
}
