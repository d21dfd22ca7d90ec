//! What blocks hold, so that a later run with the same seed can tell whether they are right.
//!
//! ```text
//!  0        8       16       24
//!  | MAGIC  | seed  | number | full: a stream that seed and number decide; meta: zeros ...
//! ```

use super::cli::Verify;

const MAGIC: u64 = u64::from_le_bytes(*b"archbnch");
const HEAD: usize = 24;

/// splitmix64.
pub(super) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Fills a block, whose size is a multiple of 8.
pub(super) fn fill(block: &mut [u8], verify: Verify, seed: u64, number: u64) {
    for (place, word) in block.chunks_exact_mut(8).zip([MAGIC, seed, number]) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    if verify == Verify::Full {
        let mut state = mix(seed ^ number.rotate_left(32));
        for place in block[HEAD..].chunks_exact_mut(8) {
            state = mix(state);
            place.copy_from_slice(&state.to_le_bytes());
        }
    }
}

/// Whether a block holds what [`fill`] put there; `scratch` is as large as the block.
pub(super) fn is_right(
    block: &[u8],
    scratch: &mut [u8],
    verify: Verify,
    seed: u64,
    number: u64,
) -> bool {
    fill(scratch, verify, seed, number);
    match verify {
        Verify::No => true,
        Verify::Meta => block[..HEAD] == scratch[..HEAD],
        Verify::Full => block == scratch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts_in_full_and_only_the_head_in_meta() {
        let (mut block, mut scratch) = (vec![0; 4096], vec![0; 4096]);
        fill(&mut block, Verify::Full, 1, 2);
        assert!(is_right(&block, &mut scratch, Verify::Full, 1, 2));
        assert!(!is_right(&block, &mut scratch, Verify::Full, 1, 3));
        block[4000] ^= 1;
        assert!(!is_right(&block, &mut scratch, Verify::Full, 1, 2));
        assert!(is_right(&block, &mut scratch, Verify::Meta, 1, 2));
        assert!(!is_right(&block, &mut scratch, Verify::Meta, 2, 2));
    }
}
