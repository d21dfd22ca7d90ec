//! What processes cost while nobody looks: processor time and private memory.

use std::io;

/// Processor time of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Processor {
    /// utime + stime in clock ticks (10 ms), as tools show it.
    pub ticks: u64,
    /// Time on a processor of all its threads, ns: finer than the ticks.
    pub ns: u64,
}

/// Processor time of `pid` since its start.
pub fn processor(pid: u32) -> io::Result<Processor> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let mut ns = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        ns += first_number(&text);
    }
    Ok(Processor { ticks: ticks(&stat), ns })
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Fields 14 and 15 of proc_pid_stat(5); the second may hold blanks and brackets.
fn ticks(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    [11, 12].iter().filter_map(|&at| fields.get(at)?.parse::<u64>().ok()).sum()
}

/// Private memory of `pid` in KiB: its share of every mapping (Pss) but the segment's.
pub fn private_kib(pid: u32) -> io::Result<u64> {
    Ok(private_of(&std::fs::read_to_string(format!("/proc/{pid}/smaps"))?))
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
    fn ticks_are_read_behind_any_name() {
        let stat = "42 (a ) (b) S 1 42 42 0 -1 4194560 90 0 0 0 7 5 0 0 20 0 1 0 100 1 1";
        assert_eq!(ticks(stat), 12);
    }

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
        assert!(processor(pid).unwrap().ns > 0);
    }
}
