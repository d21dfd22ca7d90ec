//! Where time and randomness come from: the machine, or a seed.
//!
//! Whatever decides anything by the time or by chance asks an [`Env`], so that a simulation with
//! [`SimClock`] and [`SeededEntropy`] decides the same each time it runs from one seed.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A clock that never goes back.
pub trait Clock {
    /// Nanoseconds since some fixed moment.
    fn now_ns(&self) -> u64;
}

/// A source of random numbers.
pub trait Entropy {
    /// The next one.
    fn next_u64(&self) -> u64;
}

/// The time and the randomness of one reactor.
#[derive(Clone)]
pub struct Env {
    /// The time.
    pub clock: Rc<dyn Clock>,
    /// The randomness.
    pub entropy: Rc<dyn Entropy>,
}

impl Env {
    /// The machine's own.
    pub fn real() -> Env {
        Env {
            clock: Rc::new(RealClock),
            entropy: Rc::new(RealEntropy::new()),
        }
    }

    /// All from one seed; the clock stands still until it is told to go on.
    pub fn simulated(seed: u64) -> (Env, Rc<SimClock>) {
        let clock = Rc::new(SimClock::default());
        let env = Env {
            clock: clock.clone(),
            entropy: Rc::new(SeededEntropy::new(seed)),
        };
        (env, clock)
    }
}

/// CLOCK_MONOTONIC, the clock of io_uring's timeouts.
pub struct RealClock;

impl Clock for RealClock {
    fn now_ns(&self) -> u64 {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
            .expect("every Linux has CLOCK_MONOTONIC");
        now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
    }
}

/// A generator seeded by the operating system.
pub struct RealEntropy(SeededEntropy);

impl RealEntropy {
    /// Takes a seed from the operating system.
    #[allow(clippy::new_without_default, reason = "two of them are never equal")]
    pub fn new() -> RealEntropy {
        RealEntropy(SeededEntropy::new(rand::random()))
    }
}

impl Entropy for RealEntropy {
    fn next_u64(&self) -> u64 {
        self.0.next_u64()
    }
}

/// A clock that is set by hand.
#[derive(Default)]
pub struct SimClock(Cell<u64>);

impl SimClock {
    /// Lets `ns` nanoseconds pass.
    pub fn advance(&self, ns: u64) {
        self.0.set(self.0.get() + ns);
    }
}

impl Clock for SimClock {
    fn now_ns(&self) -> u64 {
        self.0.get()
    }
}

/// ChaCha8 from a seed: the same numbers on every machine.
pub struct SeededEntropy(RefCell<ChaCha8Rng>);

impl SeededEntropy {
    /// Begins with `seed`.
    pub fn new(seed: u64) -> SeededEntropy {
        SeededEntropy(RefCell::new(ChaCha8Rng::seed_from_u64(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn next_u64(&self) -> u64 {
        self.0.borrow_mut().next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself() {
        let (one, two) = (SeededEntropy::new(7), SeededEntropy::new(7));
        let first: Vec<_> = (0..4).map(|_| one.next_u64()).collect();
        assert_eq!(first, (0..4).map(|_| two.next_u64()).collect::<Vec<_>>());
        assert_ne!(first[0], SeededEntropy::new(8).next_u64());
    }

    #[test]
    fn clocks_go_forward() {
        let (env, clock) = Env::simulated(1);
        clock.advance(5);
        assert_eq!(env.clock.now_ns(), 5);
        let before = RealClock.now_ns();
        assert!(RealClock.now_ns() >= before && before > 0);
    }
}
