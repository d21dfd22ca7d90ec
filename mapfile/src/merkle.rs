//! The Merkle root that names a hashed map, as Pithos computes it (`spec/pithos.md` section 4).
//! The hash comes from the caller, so that this crate needs none.

/// The Merkle root of a map's block hashes: the list is filled up with hashes of 32 zero bytes to
/// a power of two, then hashed in pairs until one is left. One hash is its own root; the root of
/// none is the hash of nothing.
pub fn merkle_root(hashes: &[[u8; 32]], mut hash: impl FnMut(&[u8]) -> [u8; 32]) -> [u8; 32] {
    let mut level = hashes.to_vec();
    // The root of a subtree of padding as high as `level`: it stands for all that is missing on
    // the right, so that the padding itself is never laid out.
    let mut padding = [0; 32];
    while level.len() > 1 {
        if !level.len().is_multiple_of(2) {
            level.push(padding);
        }
        level = level
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| hash(pair.as_flattened()))
            .collect();
        padding = hash([padding, padding].as_flattened());
    }
    level.pop().unwrap_or_else(|| hash(&[]))
}

/// A block without the zeros at its end: that is what is hashed, and what a missing tail reads as.
pub fn strip_trailing_zeros(block: &[u8]) -> &[u8] {
    let zeros = block.iter().rev().take_while(|&&byte| byte == 0).count();
    &block[..block.len() - zeros]
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn sha256(data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }

    /// The rule as it is written: fill up, then hash pairs.
    fn by_the_book(hashes: &[[u8; 32]]) -> [u8; 32] {
        let mut level = hashes.to_vec();
        level.resize(level.len().next_power_of_two(), [0; 32]);
        while level.len() > 1 {
            level = level
                .chunks(2)
                .map(|pair| sha256(pair.as_flattened()))
                .collect();
        }
        level[0]
    }

    #[test]
    fn padding_need_not_be_laid_out() {
        for count in 1..70u8 {
            let hashes: Vec<_> = (0..count).map(|i| sha256(&[i])).collect();
            assert_eq!(
                merkle_root(&hashes, sha256),
                by_the_book(&hashes),
                "{count} hashes"
            );
        }
    }

    #[test]
    fn one_hash_is_its_own_root_and_none_is_the_hash_of_nothing() {
        assert_eq!(merkle_root(&[[7; 32]], sha256), [7; 32]);
        assert_eq!(merkle_root(&[], sha256), crate::entry::ZERO_BLOCK);
    }

    #[test]
    fn only_zeros_at_the_end_go() {
        assert_eq!(strip_trailing_zeros(&[0, 1, 0, 2, 0, 0]), [0, 1, 0, 2]);
        assert_eq!(strip_trailing_zeros(&[0, 0]), []);
    }
}
