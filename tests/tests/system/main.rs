//! The system tests, in one program.

mod embedded;
mod simulation;
