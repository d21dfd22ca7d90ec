//! `--format`: for people or for programs.

/// How to print what was found.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Format {
    /// Print for people (text) or for programs (json)
    #[arg(
        long = "format",
        value_enum,
        value_name = "FORMAT",
        default_value = "text"
    )]
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Kind {
    Text,
    Json,
}

impl Format {
    /// Whether programs read it.
    pub(crate) fn is_json(self) -> bool {
        self.kind == Kind::Json
    }
}
