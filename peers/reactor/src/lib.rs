//! One thread, one io_uring, and the seams that a simulation needs.
//!
//! A peer owns no thread and makes no system call; it runs on a [`Reactor`]. Nothing here is shared
//! between threads but what [`Offload`] hands to its workers and a task's waker.
//!
//! | file | what it holds |
//! |---|---|
//! | `ring` | [`Ring`], [`Handler`]: submissions and completions of io_uring |
//! | `flight` | [`Flights`]: operations whose memory is kept until they end, as by [`Ring::op`] |
//! | `executor` | [`Executor`]: tasks of several steps |
//! | `timers` | [`Timers`]: tasks that wait for a time |
//! | `offload` | [`Offload`]: threads for system calls that io_uring does not have |
//! | `sync` | primitives between tasks of one executor |
//! | `env` | [`Env`]: the time and the randomness, real or from a seed |
//! | `bundle` | [`Reactor`]: all of these, turned together |

mod bundle;
mod env;
mod executor;
mod flight;
mod offload;
mod ring;
pub mod sync;
#[cfg(test)]
mod tests;
mod timers;

pub use bundle::Reactor;
pub use env::{Clock, Entropy, Env, RealClock, RealEntropy, SeededEntropy, SimClock};
pub use executor::Executor;
pub use flight::{Flights, Landed};
pub use io_uring::{opcode, squeue, types};
pub use offload::Offload;
pub use ring::{Handler, MAX_PAYLOAD, Ring, RingError};
pub use timers::{Sleep, Timers};
