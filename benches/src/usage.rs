//! What processes cost while nobody looks: processor time and private memory.

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::io;
use std::time::Duration;

/// Processor time of `pid` since its start, user and system, all threads, also those that ended.
/// The same clock that tools show in ticks of 10 ms, in full resolution.
pub fn processor(pid: u32) -> io::Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid as i32))?;
    Ok(clock_gettime(clock)?.into())
}

/// Private memory of `pid` in KiB: its share of every mapping (Pss) but the segment's.
pub fn private_kib(pid: u32) -> io::Result<u64> {
    Ok(private_of(&std::fs::read_to_string(format!(
        "/proc/{pid}/smaps"
    ))?))
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// The name that the segment's memfds go by.
const SEGMENT: &str = "/memfd:archipelago";

fn private_of(smaps: &str) -> u64 {
    let (mut total, mut counts) = (0, true);
    for line in smaps.lines() {
        let key = line.split_whitespace().next().unwrap_or("");
        match key {
            "Pss:" if counts => total += line.split_whitespace().nth(1).map_or(0, first_number),
            // A mapping's own line begins with its addresses, not with a name and a colon.
            _ if !key.ends_with(':') => counts = !line.contains(SEGMENT),
            _ => {}
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segment_does_not_count_as_private() {
        let smaps = "\
7f00-7f01 rw-p 00000000 00:00 0 \nSize:  100 kB\nRss:  80 kB\nPss:  70 kB\nPss_Dirty:  60 kB
7f02-7f03 rw-s 00000000 00:01 1050 /memfd:archipelago (deleted)\nSize:  9000 kB\nPss:  5000 kB
7f04-7f05 r-xp 00000000 fe:00 77 /usr/bin/node\nPss:  3 kB\n";
        assert_eq!(private_of(smaps), 73);
    }

    #[test]
    fn this_process_has_memory_and_has_run() {
        let pid = std::process::id();
        assert!(private_kib(pid).unwrap() > 100);
        assert!(!processor(pid).unwrap().is_zero());
    }
}
