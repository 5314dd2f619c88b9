//! Which addresses a request may go to, checked after name resolution.
//!
//! What a namespaced policy names, and what servers name in redirects and challenges, must not turn podseal into a
//! relay to places that only it can reach: its own loopback, link-local and metadata services, the API server.
//! The check sits inside name resolution, so the connection goes to the very addresses that were checked (a name that
//! changes its address between check and use gains nothing). Address literals never pass a resolver and are checked
//! before each request. Private ranges are not refused: registries live there.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::SourceConfig;

/// Metadata and platform services outside the link-local range: Amazon, Google, Alibaba, Oracle and Azure.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// The administrator's rules for addresses. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AddressGuard(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    allowed: Vec<IpNet>,
    /// As configured, and as they were last found.
    api_servers: ArcSwap<Vec<IpAddr>>,
    /// Host names of the proxies from the environment: the administrator's choice, so they may be anywhere.
    proxies: HashSet<String>,
}

/// The name leads to an address that is refused. It does not say which: that is for the one who asked not to learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the address is refused")
    }
}

impl std::error::Error for Refused {}

impl AddressGuard {
    /// The rules of a configuration and the proxies of this process's environment.
    pub fn new(config: &SourceConfig) -> Self {
        const VARIABLES: [&str; 6] =
            ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
        let proxies = VARIABLES.iter().filter_map(|name| std::env::var(name).ok()).filter_map(|text| proxy_host(&text));
        Self(Arc::new(Rules {
            allowed: config.allowed_addresses.clone(),
            api_servers: ArcSwap::from_pointee(canonical(&config.api_server_addresses)),
            proxies: proxies.collect(),
        }))
    }

    /// Replaces the addresses of the API server.
    pub fn set_api_servers(&self, addresses: &[IpAddr]) {
        self.0.api_servers.store(Arc::new(canonical(addresses)));
    }

    /// Whether a guarded request may not go to this address.
    pub fn refuses(&self, address: IpAddr) -> bool {
        // Every IPv4 address inside is judged, too: a translating network would deliver there.
        std::iter::once(address).chain(embedded(address)).any(|a| self.refuses_plain(a))
    }

    fn refuses_plain(&self, address: IpAddr) -> bool {
        let special = METADATA.contains(&address) || self.0.api_servers.load().contains(&address) || is_local(address);
        special && !self.0.allowed.iter().any(|net| net.contains(&address))
    }

    /// Checks a URL's host before a guarded request. Names are left to [`GuardedResolver`], which sees the addresses
    /// that are really used; where a proxy resolves instead of podseal, they are looked up here as well as can be.
    pub async fn admit(&self, url: &url::Url) -> Result<(), Refused> {
        let refused = match url.host() {
            Some(url::Host::Ipv4(a)) => self.refuses(a.into()),
            Some(url::Host::Ipv6(a)) => self.refuses(a.into()),
            Some(url::Host::Domain(name)) if !self.0.proxies.is_empty() => self.name_is_refused(name).await,
            Some(url::Host::Domain(_)) => false,
            None => true,
        };
        if refused { Err(Refused) } else { Ok(()) }
    }

    /// Whether the host is, or resolves to, an address that is refused. An unknown name is not.
    pub async fn is_refused(&self, host: url::Host<&str>) -> bool {
        match host {
            url::Host::Ipv4(a) => self.refuses(a.into()),
            url::Host::Ipv6(a) => self.refuses(a.into()),
            url::Host::Domain(name) => self.name_is_refused(name).await,
        }
    }

    async fn name_is_refused(&self, name: &str) -> bool {
        match tokio::net::lookup_host((name, 0)).await {
            Ok(mut addresses) => addresses.any(|a| self.refuses(a.ip())),
            Err(_) => false,
        }
    }
}

/// Resolves names with the system's resolver and refuses a name if any of its addresses is refused.
#[derive(Debug, Clone)]
pub struct GuardedResolver(pub AddressGuard);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let proxy = guard.0.proxies.contains(&name.as_str().to_ascii_lowercase());
            if !proxy && addresses.iter().any(|a| guard.refuses(a.ip())) {
                return Err(Box::new(Refused) as Box<dyn std::error::Error + Send + Sync>);
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn canonical(addresses: &[IpAddr]) -> Vec<IpAddr> {
    addresses.iter().map(IpAddr::to_canonical).collect()
}

fn proxy_host(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok().filter(url::Url::has_host);
    let url = url.or_else(|| url::Url::parse(&format!("http://{text}")).ok())?;
    url.host_str().map(str::to_ascii_lowercase)
}

/// Loopback, unspecified, "this network", link-local (with the metadata service), multicast and broadcast.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            let [first, ..] = a.octets();
            first == 0 || a.is_loopback() || a.is_link_local() || a.is_multicast() || a.is_broadcast()
        }
        IpAddr::V6(a) => a.is_loopback() || a.is_unspecified() || a.is_unicast_link_local() || a.is_multicast(),
    }
}

/// IPv4 addresses that an IPv6 address carries: mapped and compatible (RFC 4291), 6to4 (RFC 3056), NAT64 (RFC 6052,
/// RFC 8215 in every prefix length) and Teredo (RFC 4380: server, and client with its bits inverted).
fn embedded(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = address else { return Vec::new() };
    let o = v6.octets();
    let v4 = |a: u8, b: u8, c: u8, d: u8| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    let last = v4(o[12], o[13], o[14], o[15]);
    let [first, second, third, ..] = v6.segments();
    match (first, second, third) {
        // `::` and `::1` are judged as themselves, not as 0.0.0.0 and 0.0.0.1, so that they can be allowed.
        (0, 0, 0) if v6.is_loopback() || v6.is_unspecified() => Vec::new(),
        (0, 0, 0) | (0x64, 0xff9b, 0) => vec![last],
        (0x2002, _, _) => vec![v4(o[2], o[3], o[4], o[5])],
        (0x64, 0xff9b, 1) => {
            vec![last, v4(o[6], o[7], o[9], o[10]), v4(o[7], o[9], o[10], o[11]), v4(o[9], o[10], o[11], o[12])]
        }
        (0x2001, 0, _) => vec![v4(o[4], o[5], o[6], o[7]), v4(!o[12], !o[13], !o[14], !o[15])],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allowed: &[&str], api: &[&str]) -> AddressGuard {
        AddressGuard::new(&SourceConfig {
            allowed_addresses: allowed.iter().map(|n| n.parse().expect("network")).collect(),
            api_server_addresses: api.iter().map(|a| a.parse().expect("address")).collect(),
            ..SourceConfig::default()
        })
    }

    #[test]
    fn g5_refuses_local_metadata_and_api_server_addresses_in_every_form() {
        let guard = guard(&[], &["10.96.0.1", "fd12::1"]);
        for refused in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "10.96.0.1",
            "::1",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd12::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.96.0.1",
            "::127.0.0.1",
            "::169.254.169.254",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::127.0.0.1",
            "2001:0:7f00:1::",
            "2001:0:102:304:0:0:80ff:fffe",
            "64:ff9b:1:7f00:0:100::",
        ] {
            assert!(guard.refuses(refused.parse().expect("address")), "{refused} was let through");
        }
        for fine in [
            "10.96.0.2",
            "192.168.1.1",
            "172.16.0.1",
            "1.1.1.1",
            "2606:4700::1111",
            "fd12::2",
            "::ffff:10.0.0.1",
            "2002:0a00:1::",
            "64:ff9b::10.0.0.1",
            "100.64.0.1",
        ] {
            assert!(!guard.refuses(fine.parse().expect("address")), "{fine} was refused");
        }
    }

    #[test]
    fn g5_an_api_server_that_moved_is_refused_at_its_new_address() {
        let guard = guard(&[], &["10.96.0.1"]);
        let [old, new] = ["10.96.0.1", "192.168.7.7"].map(|address| address.parse().expect("address"));
        assert!(guard.refuses(old) && !guard.refuses(new));
        guard.set_api_servers(&[new]);
        assert!(!guard.refuses(old) && guard.refuses(new));
    }

    #[test]
    fn g5_the_administrator_may_allow_addresses() {
        let guard = guard(&["127.0.0.0/8", "10.96.0.1/32"], &["10.96.0.1"]);
        for fine in ["127.0.0.1", "10.96.0.1"] {
            assert!(!guard.refuses(fine.parse().expect("address")), "{fine}");
        }
        for refused in ["::1", "169.254.169.254", "64:ff9b::169.254.169.254"] {
            assert!(guard.refuses(refused.parse().expect("address")), "{refused}");
        }
    }

    #[tokio::test]
    async fn g5_literals_are_checked_in_every_spelling_a_url_can_have() {
        let guard = guard(&[], &[]);
        for text in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
            "http://%31%32%37.0.0.1/",
            "http://0/",
            "http://１２７.0.0.1/",
        ] {
            let url = url::Url::parse(text).expect("url");
            assert_eq!(guard.admit(&url).await, Err(Refused), "{text}");
        }
        let url = url::Url::parse("http://192.0.2.1/").expect("url");
        assert_eq!(guard.admit(&url).await, Ok(()));
    }

    #[tokio::test]
    async fn g5_names_are_refused_by_what_they_resolve_to() {
        let name = || "localhost".parse::<Name>().expect("name");
        let Err(error) = GuardedResolver(guard(&[], &[])).resolve(name()).await else { panic!("resolved") };
        assert!(error.downcast_ref::<Refused>().is_some());
        let allowed = GuardedResolver(guard(&["127.0.0.0/8", "::1/128"], &[])).resolve(name()).await;
        assert!(allowed.is_ok_and(|mut a| a.next().is_some()));
    }

    #[test]
    fn proxies_are_recognised_with_and_without_a_scheme() {
        assert_eq!(proxy_host("http://user:pw@Proxy.example:3128"), Some("proxy.example".into()));
        assert_eq!(proxy_host("proxy.example:3128"), Some("proxy.example".into()));
        assert_eq!(proxy_host(""), None);
    }
}
