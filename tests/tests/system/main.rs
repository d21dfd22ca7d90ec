//! The system tests, in one program.

mod embedded;
mod golden;
mod simulation;
