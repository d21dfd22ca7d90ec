//! The hash by which RADOS places objects: Bob Jenkins' of 1997, as `ceph_str_hash_rjenkins`.
//!
//! It decides nothing here but where a page of names ends, and the tests hold it against the order
//! in which a cluster gives them.

/// The hash of an object's name, with its bits in reverse: its place in the order of a pool.
pub(crate) fn reversed_hash(name: &[u8]) -> u32 {
    hash(name).reverse_bits()
}

fn hash(bytes: &[u8]) -> u32 {
    const GOLDEN: u32 = 0x9e37_79b9;
    let (mut a, mut b, mut c) = (GOLDEN, GOLDEN, 0);
    let mut chunks = bytes.chunks_exact(12);
    for chunk in &mut chunks {
        a = u32::wrapping_add(a, word(&chunk[..4]));
        b = u32::wrapping_add(b, word(&chunk[4..8]));
        c = u32::wrapping_add(c, word(&chunk[8..]));
        (a, b, c) = mix(a, b, c);
    }
    let rest = chunks.remainder();
    c = c.wrapping_add(bytes.len() as u32);
    a = a.wrapping_add(word(&rest[..rest.len().min(4)]));
    b = b.wrapping_add(word(&rest[rest.len().min(4)..rest.len().min(8)]));
    // The lowest byte of the last word is the length's.
    c = c.wrapping_add(word(&rest[rest.len().min(8)..]) << 8);
    mix(a, b, c).2
}

/// Up to four bytes, little-endian.
fn word(bytes: &[u8]) -> u32 {
    let shifted = |(at, byte): (usize, &u8)| u32::from(*byte) << (8 * at);
    bytes.iter().enumerate().map(shifted).sum()
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    for [first, second, third] in [[13, 8, 13], [12, 16, 5], [3, 10, 15]] {
        a = a.wrapping_sub(b).wrapping_sub(c) ^ (c >> first);
        b = b.wrapping_sub(c).wrapping_sub(a) ^ (a << second);
        c = c.wrapping_sub(a).wrapping_sub(b) ^ (b >> third);
    }
    (a, b, c)
}
