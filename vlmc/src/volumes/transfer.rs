//! What import and export share: pieces, zeros, and the bar that shows how far they are.

use crate::failure::Failure;
use indicatif::{ProgressBar, ProgressStyle};
use std::io;
use std::path::Path;

/// Bytes that are moved at once: a block, so that each is written once.
pub(super) const PIECE: usize = 4 << 20;
/// Bytes that are looked at for zeros at once.
const GRAIN: usize = 64 << 10;

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| b == 0)
}

/// The stretches of `bytes` that are not zero, as offset and bytes, neighbours joined.
pub(super) fn stretches(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (index, grain) in bytes.chunks(GRAIN).enumerate() {
        let at = index * GRAIN;
        match found.last_mut() {
            _ if is_zero(grain) => {}
            Some((_, end)) if *end == at => *end = at + grain.len(),
            _ => found.push((at, at + grain.len())),
        }
    }
    found
        .into_iter()
        .map(|(at, end)| (at, &bytes[at..end]))
        .collect()
}

pub(super) fn failed(sentence: &'static str, what: &Path) -> impl Fn(io::Error) -> Failure {
    move |e| Failure::new(format!("{sentence}: {}: {e}", what.display()))
}

pub(super) fn is_stream(file: &Path) -> bool {
    file == Path::new("-")
}

pub(super) fn bar(size: Option<u64>) -> ProgressBar {
    let bar = match size {
        Some(size) => ProgressBar::new(size),
        None => ProgressBar::no_length(),
    };
    let style =
        ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_leave_zeros_out_and_join_neighbours() {
        let mut bytes = vec![0; 4 * GRAIN + 10];
        assert!(stretches(&bytes).is_empty());
        bytes[GRAIN] = 1;
        bytes[3 * GRAIN - 1] = 1;
        bytes[4 * GRAIN + 9] = 1;
        let found: Vec<(usize, usize)> = stretches(&bytes)
            .iter()
            .map(|(at, b)| (*at, b.len()))
            .collect();
        assert_eq!(found, [(GRAIN, 2 * GRAIN), (4 * GRAIN, 10)]);
    }
}
