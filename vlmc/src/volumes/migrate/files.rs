//! The files of one blocker: page by page, with a bar that shows how far it is.

use super::Left;
use crate::failure::Failure;
use client::{Client, ErrorKind};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use xseg::protocol::PortNo;

/// Objects and directories that are looked at in one request.
const PAGE: u64 = 512;

/// What became of one blocker's files.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Moved {
    pub(super) role: &'static str,
    pub(super) moved: u64,
    pub(super) directories: u64,
}

impl std::ops::AddAssign for Moved {
    /// What became of the same files later.
    fn add_assign(&mut self, later: Moved) {
        self.moved += later.moved;
        self.directories += later.directories;
    }
}

/// The blocker's answer (`MoveReport`).
#[derive(Deserialize)]
struct Page {
    moved: u64,
    directories: u64,
    left: Vec<Stays>,
    next: u64,
    permille: u32,
}

#[derive(Deserialize)]
struct Stays {
    path: String,
    reason: String,
}

/// Moves all objects of the blocker at `port`, or counts them.
pub(super) fn migrate(
    client: &Client,
    (role, port): (&'static str, PortNo),
    look: bool,
    left: &mut Vec<Left>,
) -> Result<Moved, Failure> {
    let bar = bar(role);
    let mut sum = Moved {
        role,
        moved: 0,
        directories: 0,
    };
    let mut cursor = 0;
    loop {
        let page = page(client, (role, port), cursor, look)?;
        sum.moved += page.moved;
        sum.directories += page.directories;
        left.extend(page.left.into_iter().map(|stays| Left {
            role,
            what: stays.path,
            reason: stays.reason,
        }));
        bar.set_position(page.permille.into());
        bar.set_message(format!("{} objects", sum.moved));
        cursor = page.next;
        if cursor == 0 {
            bar.finish_and_clear();
            return Ok(sum);
        }
    }
}

fn page(
    client: &Client,
    (role, port): (&'static str, PortNo),
    cursor: u64,
    look: bool,
) -> Result<Page, Failure> {
    let bytes = client.migrate(port, cursor, PAGE, look).map_err(|why| {
        let reason = match why.errno {
            libc::EPERM => "it was started without pithos_migrate; restart the node".to_owned(),
            libc::EOPNOTSUPP => "it is of an older release; restart the node".to_owned(),
            _ if why.kind() == ErrorKind::NotRunning => "the node went away; run this again".into(),
            errno => nix::errno::Errno::from_raw(errno).desc().to_owned(),
        };
        Failure::new(format!("vlmc migrate failed: {role}: {reason}"))
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|why| Failure::unexpected("the node's answer makes no sense", why))
}

/// From 0 to 1000.
pub(super) fn bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(1000).with_prefix(what);
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {percent}% {msg} {eta}");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}
