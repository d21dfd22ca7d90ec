//! The system tests, in one program.

mod bad_input;
mod embedded;
mod golden;
mod kills;
mod lease;
mod simulation;
mod trouble;
