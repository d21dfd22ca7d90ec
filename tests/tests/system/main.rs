//! The system tests, in one program.

#[macro_use]
mod on_each;

mod bad_input;
mod embedded;
mod golden;
mod kills;
mod lease;
#[cfg(feature = "rados")]
mod rados;
mod simulation;
mod trouble;
