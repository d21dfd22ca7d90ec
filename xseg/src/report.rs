//! What `xseg reportall` shows: slots and buffers by holder, and who sits where.
//!
//! A report is a look at memory that others change meanwhile: its numbers need not add up to the
//! last one. Names and process ids come from the public region and are shown as they stand there.
//!
//! - [`Report`]: the numbers, as a table or through serde;
//! - [`verify`]: what is wrong, finding by finding.

mod verify;

pub use verify::{Finding, verify};

use crate::buffer;
use crate::inbox::status;
use crate::layout::SEATS;
use crate::seat::{PRIVATE, PUBLIC};
use crate::segment::Segment;
use crate::sync::Ordering;
use crate::word::{SeatNo, State};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The whole table.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which life of the node.
    pub generation: u64,
    /// The public region, and the private one if the reporter may see it.
    pub regions: Vec<RegionReport>,
    /// The seats that are not empty.
    pub members: Vec<MemberReport>,
}

/// One region.
#[derive(Clone, Debug, Serialize)]
pub struct RegionReport {
    /// [`PUBLIC`] or [`PRIVATE`].
    pub region: u8,
    /// Bytes of the region.
    pub bytes: u64,
    /// All slots by state.
    pub slots: BTreeMap<State, u32>,
    /// Slots whose state word says nothing sensible.
    pub strange: u32,
    /// Slots that are not free, by seat.
    pub seats: BTreeMap<SeatNo, SeatSlots>,
    /// Buffers, smallest class first.
    pub buffers: Vec<ClassReport>,
}

/// The slots that concern a seat.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SeatSlots {
    /// Those that it claimed, by state.
    pub owns: BTreeMap<State, u32>,
    /// Those that others sent to it, by state (queued or serving).
    pub serves: BTreeMap<State, u32>,
}

/// One class of buffers.
#[derive(Clone, Debug, Serialize)]
pub struct ClassReport {
    /// Bytes of each.
    pub size: u64,
    /// How many there are.
    pub count: u32,
    /// How many are taken.
    pub taken: u32,
    /// By whom.
    pub holders: BTreeMap<SeatNo, u32>,
}

/// Who sits at a seat.
#[derive(Clone, Debug, Serialize)]
pub struct MemberReport {
    /// Where.
    pub seat: SeatNo,
    /// Role or client name, escaped.
    pub name: String,
    /// Process id, as it was told.
    pub pid: u32,
    /// Ranges of ports that it serves, both ends included.
    pub ports: Vec<(u32, u32)>,
    /// Whether its owner lives.
    pub alive: bool,
}

impl Report {
    /// Looks at the regions. `alive` says whose owners live.
    pub fn new(
        public: &Segment,
        private: Option<&Segment>,
        alive: &dyn Fn(SeatNo) -> bool,
    ) -> Report {
        let private = private.map(|segment| region(PRIVATE, segment));
        let regions = std::iter::once(region(PUBLIC, public))
            .chain(private)
            .collect();
        Report {
            generation: public.generation(),
            regions,
            members: members(public, alive),
        }
    }

    /// Slots of `region` that are not free.
    pub fn slots_in_use(&self, region: u8) -> u32 {
        let regions = self.regions.iter().filter(|r| r.region == region);
        let states = regions.flat_map(|r| &r.slots);
        let used = states.filter(|(state, _)| **state != State::Free);
        used.map(|(_, count)| count).sum()
    }

    /// Buffers of `region` that are taken.
    pub fn buffers_in_use(&self, region: u8) -> u32 {
        let regions = self.regions.iter().filter(|r| r.region == region);
        regions.flat_map(|r| &r.buffers).map(|c| c.taken).sum()
    }
}

fn region(number: u8, segment: &Segment) -> RegionReport {
    let mut report = RegionReport {
        region: number,
        bytes: segment.layout().total,
        slots: BTreeMap::new(),
        strange: 0,
        seats: BTreeMap::new(),
        buffers: buffers(segment),
    };
    for slot in segment.slots() {
        let Some(word) = slot.state.load() else {
            report.strange += 1;
            continue;
        };
        *report.slots.entry(word.state).or_default() += 1;
        if word.state == State::Free {
            continue;
        }
        let owner = report.seats.entry(word.owner).or_default();
        *owner.owns.entry(word.state).or_default() += 1;
        if matches!(word.state, State::Queued | State::Serving) {
            let holder = report.seats.entry(word.holder).or_default();
            *holder.serves.entry(word.state).or_default() += 1;
        }
    }
    report
}

fn buffers(segment: &Segment) -> Vec<ClassReport> {
    let layout = segment.layout();
    let empty = |class: &crate::layout::Class| ClassReport {
        size: class.size,
        count: class.count,
        taken: 0,
        holders: BTreeMap::new(),
    };
    let mut classes: Vec<ClassReport> = layout.classes.iter().map(empty).collect();
    buffer::holders(layout, segment.words(), |seat, class| {
        classes[class].taken += 1;
        *classes[class].holders.entry(seat).or_default() += 1;
    });
    classes
}

fn members(public: &Segment, alive: &dyn Fn(SeatNo) -> bool) -> Vec<MemberReport> {
    let ports = ports_by_seat(public);
    let seats = (0..SEATS as u16).map(SeatNo);
    seats
        .filter_map(|seat| {
            let member = public.member(seat)?;
            let alive = alive(seat);
            let empty = member.status.load(Ordering::Relaxed) == status::EMPTY;
            (alive || !empty).then(|| MemberReport {
                seat,
                name: member.display_name(),
                pid: member.pid.load(Ordering::Relaxed),
                ports: ports.get(&seat).cloned().unwrap_or_default(),
                alive,
            })
        })
        .collect()
}

fn ports_by_seat(segment: &Segment) -> BTreeMap<SeatNo, Vec<(u32, u32)>> {
    let mut all: BTreeMap<SeatNo, Vec<(u32, u32)>> = BTreeMap::new();
    for port in 0..segment.layout().spec.ports {
        let Some(seat) = segment.seat_of_port(port) else {
            continue;
        };
        let ranges = all.entry(seat).or_default();
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == port => *last = port,
            _ => ranges.push((port, port)),
        }
    }
    all
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for region in &self.regions {
            write!(f, "{region}")?;
        }
        writeln!(
            f,
            "{:>4}  {:<5}  {:>8}  {:<16}  name",
            "seat", "state", "pid", "ports"
        )?;
        for m in &self.members {
            let state = if m.alive { "alive" } else { "dead" };
            let ports = ranges(&m.ports);
            let (seat, pid, name) = (m.seat.0, m.pid, &m.name);
            writeln!(f, "{seat:>4}  {state:<5}  {pid:>8}  {ports:<16}  {name}")?;
        }
        Ok(())
    }
}

fn ranges(ports: &[(u32, u32)]) -> String {
    let one = |&(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ports.iter().map(one).collect::<Vec<_>>().join(",")
}

fn states(counts: &BTreeMap<State, u32>) -> String {
    let one =
        |(state, count): (&State, &u32)| format!("{count} {}", format!("{state:?}").to_lowercase());
    counts.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for RegionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.region {
            PUBLIC => "public",
            _ => "private",
        };
        writeln!(f, "{name} region: {} MiB", self.bytes >> 20)?;
        writeln!(f, "  slots: {}", states(&self.slots))?;
        if self.strange > 0 {
            writeln!(f, "  slots that say nothing sensible: {}", self.strange)?;
        }
        for (seat, slots) in &self.seats {
            let (owns, serves) = (states(&slots.owns), states(&slots.serves));
            let serves = match serves.is_empty() {
                true => String::new(),
                false => format!("; serves {serves}"),
            };
            writeln!(f, "  seat {}: owns {owns}{serves}", seat.0)?;
        }
        for class in self.buffers.iter().filter(|c| c.count > 0) {
            let holders = class.holders.iter().map(|(s, n)| format!(" {}:{n}", s.0));
            let holders: String = holders.collect();
            let (kib, taken, count) = (class.size >> 10, class.taken, class.count);
            writeln!(
                f,
                "  buffers of {kib:>4} KiB: {taken} of {count} taken{holders}"
            )?;
        }
        Ok(())
    }
}
