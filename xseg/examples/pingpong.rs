//! What a hop costs: a request and its answer between two pinned threads, beside the raw
//! primitives on the same two CPUs in the same run.
//!
//! The sketch: awake, a round trip moves the slot's first lines and two inbox heads across and
//! back, about twice a raw cache line; asleep, it is two eventfd wake-ups and nothing else that
//! counts. All kinds take turns in short rounds, so that a noisy neighbour hits all of them, and
//! the tenth percentile shows what they cost undisturbed.
//!
//! `cargo run -p xseg --release --example pingpong [ROUNDS]`

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::hint::{black_box, spin_loop};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use xseg::bell::{Bells, hush};
use xseg::join::Local;
use xseg::protocol::Operation;
use xseg::seat::PUBLIC;
use xseg::{Answer, Event, EventBells, Name, RegionSpec, Request, Seat, SeatNo};

const PORT: u32 = 1;
const NEAR: usize = 0;
const FAR: usize = 1;

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).expect("a CPU number");
    sched_setaffinity(Pid::from_raw(0), &set).expect("two CPUs to pin to");
}

/// Nanoseconds for each of the second half of `count` repetitions; the first warms up.
fn time(count: u32, mut each: impl FnMut()) -> f64 {
    let half = count / 2;
    (0..half).for_each(|_| each());
    let start = Instant::now();
    (half..count).for_each(|_| each());
    start.elapsed().as_nanos() as f64 / f64::from(count - half)
}

#[repr(align(128))]
struct Line(AtomicU64);

/// Two cache lines, one for each direction.
fn raw_awake(count: u32) -> f64 {
    let (there, back) = (Line(AtomicU64::new(0)), Line(AtomicU64::new(0)));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(FAR);
            for i in 1..=u64::from(count) {
                while there.0.load(Ordering::Acquire) != i {
                    spin_loop();
                }
                back.0.store(i, Ordering::Release);
            }
        });
        let mut i = 0;
        time(count, || {
            i += 1;
            there.0.store(i, Ordering::Release);
            while back.0.load(Ordering::Acquire) != i {
                spin_loop();
            }
        })
    })
}

fn wait(bell: BorrowedFd<'_>) {
    let mut fds = [PollFd::new(bell, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::NONE).expect("poll");
}

/// Two eventfds, one for each direction, waited for as xseg waits.
fn raw_asleep(count: u32) -> f64 {
    let bells = EventBells::create(2).expect("eventfds");
    let listen = |seat| {
        let bell = bells.descriptor(SeatNo(seat)).expect("two bells");
        wait(bell.as_fd());
        hush(bell);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(FAR);
            for _ in 0..count {
                listen(1);
                bells.ring(SeatNo(0));
            }
        });
        time(count, || {
            bells.ring(SeatNo(1));
            listen(0);
        })
    })
}

fn sleep(seat: &Seat) {
    if seat.doze() {
        let bell = seat.bells().descriptor(seat.no()).expect("a bell");
        wait(bell);
        seat.wake();
        seat.hush();
    }
}

fn serve(mut seat: Seat, asleep: bool, stop: &AtomicBool) {
    pin(FAR);
    let mut events = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if !seat.poll(&mut events) {
            match asleep {
                true => sleep(&seat),
                false => spin_loop(),
            }
            continue;
        }
        for event in events.drain(..) {
            let Event::Request(incoming) = event else {
                continue;
            };
            let request = seat.read(&incoming).expect("a sound request");
            seat.answer(incoming, Answer::served(request.size));
        }
    }
}

/// Round trips through the segment, `depth` of them at a time; nanoseconds for each request.
fn through_xseg(count: u32, depth: u32, asleep: bool) -> f64 {
    let local = Local::new(RegionSpec::public(16, 8, 64)).expect("a segment");
    let mut server = local.peer_seat("server").expect("a seat");
    server.bind(PORT, PORT);
    let far = server.no();
    let mut seat = local.client_seat("client").expect("a seat");
    let stop = AtomicBool::new(false);
    let target = Name::try_from("archip_volume_000000000001_0000000000000042").expect("a name");
    let request = Request {
        size: 4096,
        ..Request::new(Operation::Read, target)
    };
    let mut events = Vec::new();
    let (mut sent, mut done) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| serve(server, asleep, &stop));
        let ns = time(count, || {
            // One more reply; the window is filled up first.
            while sent < count && sent - done < depth {
                let ticket = seat.claim(PUBLIC).expect("a slot");
                seat.submit(ticket, PORT, &request).expect("a server");
                sent += 1;
            }
            while events.is_empty() && !seat.poll(&mut events) {
                match asleep {
                    true => sleep(&seat),
                    false => spin_loop(),
                }
            }
            if let Some(Event::Reply(ticket, answer)) = events.pop() {
                black_box(answer);
                seat.release(ticket);
                done += 1;
            }
        });
        stop.store(true, Ordering::Relaxed);
        local.bells().ring(far);
        ns
    })
}

/// What is measured: name, repetitions, nanoseconds for each.
type Kind = (&'static str, u32, fn(u32) -> f64);

const KINDS: [Kind; 7] = [
    ("raw cache line, awake", 2000, raw_awake),
    ("xseg, awake", 2000, |n| through_xseg(n, 1, false)),
    ("raw eventfd, asleep", 200, raw_asleep),
    ("xseg, asleep", 200, |n| through_xseg(n, 1, true)),
    ("xseg, depth 16, awake", 4000, |n| {
        through_xseg(n, 16, false)
    }),
    ("xseg, depth 64, awake", 4000, |n| {
        through_xseg(n, 64, false)
    }),
    ("xseg, depth 64, may sleep", 4000, |n| {
        through_xseg(n, 64, true)
    }),
];

fn main() {
    let rounds = std::env::args()
        .nth(1)
        .map_or(200, |n| n.parse().expect("a number of rounds"));
    pin(NEAR);
    let mut seen = KINDS.map(|_| Vec::new());
    for _ in 0..rounds {
        for ((_, count, run), seen) in KINDS.iter().zip(&mut seen) {
            seen.push(run(*count));
        }
    }
    println!(
        "{:<26} {:>8} {:>8} {:>8} {:>12}",
        "ns", "tenth", "median", "ninetieth", "per s (median)"
    );
    for ((name, ..), mut ns) in KINDS.iter().zip(seen) {
        ns.sort_by(f64::total_cmp);
        let at = |percent: usize| ns[(ns.len() - 1) * percent / 100];
        let (low, median, high) = (at(10), at(50), at(90));
        let rate = 1e9 / median;
        println!("{name:<26} {low:>8.0} {median:>8.0} {high:>8.0} {rate:>12.0}");
    }
}
