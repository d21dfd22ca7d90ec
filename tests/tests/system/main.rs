//! The system tests, in one program.

mod simulation;
