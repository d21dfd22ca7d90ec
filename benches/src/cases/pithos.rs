//! What users of Pithos wait for: hashing what they store, reading what lies where an older release
//! left it, and volumes made of their images.
//!
//! - [`ingest`]: a snapshot becomes an object of hashes;
//! - [`cold`]: a block is read that moves, because it is met at its old place;
//! - [`images`]: a volume is made of an image, durably.

pub mod cold;
pub mod images;
pub mod ingest;

use super::Setting;
use crate::case::{Case, Trouble};

/// Bytes of a block.
const BLOCK: usize = 4 << 20;

/// All cases of the suite.
pub fn cases(setting: &Setting) -> Result<Vec<Case>, Trouble> {
    let mut cases = ingest::cases(setting);
    cases.push(cold::case(setting));
    cases.extend(images::cases(setting));
    Ok(cases)
}

/// A name as Pithos gives it; of no content, which nobody checks who reads.
fn hash_name(number: u64) -> String {
    format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(4)
}

/// Where an older release has an object of such a name, below the node's folder.
fn old_path(name: &str) -> std::path::PathBuf {
    [&name[..2], &name[2..4], &name[4..6], name]
        .iter()
        .collect()
}

/// Where it is made now.
fn new_path(name: &str) -> std::path::PathBuf {
    use sha2::Digest;
    let hash: [u8; 32] = sha2::Sha256::digest(name).into();
    let [a, b, c] = [0, 1, 2].map(|at| format!("{:02x}", hash[at]));
    [&a, &b, &c, name].iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_node() {
        let name = "0123456789abcdef".repeat(4);
        assert!(old_path(&name).starts_with("01/23/45"));
        // printf 0123...ef (four times) | sha256sum
        assert!(new_path(&name).starts_with("a8/ae/6e"));
        assert_eq!(hash_name(7).len(), 64);
        assert_ne!(hash_name(7), hash_name(8));
    }
}
