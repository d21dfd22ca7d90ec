//! The full name of this host, as Python's `socket.getfqdn()` tells it, because Ganeti compares
//! with that: the first of the names of the host's first address that has a dot.
//!
//! Only one name of an address can be asked for without unsafe code (getnameinfo); further ones
//! come from `/etc/hosts` alone, so they are read there.

use std::net::IpAddr;
use std::str::FromStr;

const HOSTS: &str = "/etc/hosts";

/// The name; the plain host name where nothing better is known.
pub(crate) fn fqdn() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = host.to_string_lossy().into_owned();
    let Some(address) = first_address(&host) else {
        return host;
    };
    let Some(name) = name_of(address) else {
        return host;
    };
    let hosts = std::fs::read_to_string(HOSTS).unwrap_or_default();
    full_name(name, names_in(&hosts, address))
}

fn first_address(host: &str) -> Option<IpAddr> {
    dns_lookup::lookup_host(host).ok()?.next()
}

fn name_of(address: IpAddr) -> Option<String> {
    let name = dns_lookup::lookup_addr(&address).ok()?;
    // An address without a name comes back as it was.
    IpAddr::from_str(&name).is_err().then_some(name)
}

fn full_name<'a>(name: String, mut others: impl Iterator<Item = &'a str>) -> String {
    let has_dot = |name: &str| name.contains('.');
    match has_dot(&name) {
        true => name,
        false => others
            .find(|other| has_dot(other))
            .map_or(name, str::to_owned),
    }
}

/// The names in the first line of hosts(5) that is about the address.
fn names_in(hosts: &str, address: IpAddr) -> impl Iterator<Item = &str> {
    let lines = hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let mut words = lines.map(str::split_whitespace);
    let line = words.find_map(|mut words| {
        let found = IpAddr::from_str(words.next()?) == Ok(address);
        found.then_some(words)
    });
    line.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_with_a_dot_is_the_full_one() {
        let hosts = "127.0.0.1 localhost.localdomain localhost\n\
            # 10.0.0.7 old.example.org\n\
            10.0.0.7\tnode7 node7.example.org node7.example.net # here\n\
            10.0.0.7 late.example.org\n::1 ip6-localhost\n";
        let ours = IpAddr::from([10, 0, 0, 7]);
        let full = |name: &str, address| full_name(name.into(), names_in(hosts, address));
        assert_eq!(full("node7", ours), "node7.example.org");
        assert_eq!(full("node7.example.com", ours), "node7.example.com");
        assert_eq!(full("node8", IpAddr::from([10, 0, 0, 8])), "node8");
        assert_eq!(
            full("ip6-localhost", IpAddr::from_str("::1").unwrap()),
            "ip6-localhost"
        );
    }

    #[test]
    fn this_host_has_a_name() {
        assert!(!fqdn().is_empty());
    }
}
