//! The address of a client instance, where somebody else says it: what stands in a lock is put into
//! a command to the monitors, and decides who is cut off.

use std::net::SocketAddr;

/// The protocols that an address may be for.
const PROTOCOLS: [&str; 3] = ["v1:", "v2:", "any:"];

/// Whether it is the address of one instance, and nothing else: `1.2.3.4:0/5`, with or without a
/// protocol. Without the instance's number it would be a whole host. Ceph's own reader is not asked,
/// because it stops at what is no digit.
pub(crate) fn is_instance(address: &str) -> bool {
    let Some((socket, nonce)) = bare(address).rsplit_once('/') else {
        return false;
    };
    let is_number = nonce.bytes().all(|byte| byte.is_ascii_digit());
    let nonce = nonce.parse::<u32>();
    socket.parse::<SocketAddr>().is_ok() && is_number && nonce.is_ok_and(|nonce| nonce != 0)
}

/// An address without the protocol that it is for: the cluster cuts an instance off for all of them.
/// Of several protocols one is left, so what is no address does not become one.
pub(crate) fn bare(address: &str) -> &str {
    PROTOCOLS
        .iter()
        .find_map(|protocol| address.strip_prefix(protocol))
        .unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instance_is_named_and_nothing_else() {
        for one in [
            "10.0.0.1:0/5",
            "v1:10.0.0.1:6789/4294967295",
            "v2:[2001:db8::1]:0/77",
            "any:10.0.0.1:0/1",
        ] {
            assert!(is_instance(one), "{one}");
        }
        for other in [
            "",
            "/",
            "-",
            "10.0.0.1",
            "10.0.0.1:0",
            "10.0.0.1/7",
            "10.0.0.1:0/0",
            "10.0.0.1:0/000",
            "10.0.0.1:0/+7",
            "10.0.0.1:0/0x7",
            "10.0.0.1:0/7 ",
            " 10.0.0.1:0/7",
            "10.0.0.1:0/4294967296",
            "v3:10.0.0.1:0/7",
            "v1:v2:10.0.0.1:0/7",
            "host:0/7",
            "[10.0.0.1]:0/7",
            "10.0.0.1:0/7\", \"expire\": \"0",
            "10.0.0.1:0/\u{0661}",
        ] {
            assert!(!is_instance(other), "{other}");
        }
    }
}
