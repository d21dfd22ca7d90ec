//! The system tests, in one program.

mod embedded;
mod kills;
mod simulation;
