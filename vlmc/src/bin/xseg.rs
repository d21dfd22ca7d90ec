//! `xseg`: make, look at and mend a segment.

use std::process::ExitCode;

fn main() -> ExitCode {
    vlmc::segment_tool::main(std::env::args_os())
}
