//! What the command lines of the tools share.

use clap::{Args, CommandFactory, FromArgMatches};
use config::args::rewrite_single_dash;
use std::ffi::OsString;
use std::path::PathBuf;

/// Which node a tool works on.
#[derive(Debug, Args)]
pub(crate) struct NodeFile {
    /// The node's configuration file
    #[arg(short, long, value_name = "FILE", default_value = config::paths::CONFIG_FILE)]
    pub(crate) config: PathBuf,
}

/// Reads a command line, the first word of which is the tool's own name. `single_dash` are the
/// original's options with one dash and more than one letter.
pub(crate) fn parse<C: CommandFactory + FromArgMatches>(
    args: impl IntoIterator<Item = OsString>,
    single_dash: &[(&str, &str)],
) -> C {
    let args = rewrite_single_dash(args, single_dash);
    let matches = C::command().get_matches_from(args);
    C::from_arg_matches(&matches).unwrap_or_else(|e| e.exit())
}
