//! LIST: the maps in storage, one page at a time.
//!
//! The request's `offset` is the cursor, 0 at first. The answer's data is text: first a line with
//! the next cursor (0 after the last page), then one line for each map; `serviced` is its length.
//!
//! ```text
//!  {"next":4711}
//!  {"name":"volume","object":"archip_volume","version":1,"read_only":false,"deleted":false,"size":null}
//! ```
//! Names are escaped as on a terminal. Size is that of a v2 header, else null.

use crate::ask::Side;
use crate::errno::{Errno, Result};
use crate::job::{Job, Reply};
use crate::window;
use mapfile::header::HEADER_LEN;
use mapfile::name::{Escaped, is_hash_name, reserved_form};
use mapfile::{Header, ReservedForm, classify, shown_name};
use serde_json::json;
use xseg::protocol::{ListPage, Operation, flags};
use xseg::{Name, Request};

/// Names in one page of LIST, and bytes for it: a page may be longer than was asked for.
const LIST_PAGE_NAMES: u64 = 256;
const LIST_PAGE_LEN: u64 = 1 << 20;

/// Headers read at once.
const WIDTH: usize = 16;

impl Job {
    /// One page of the names in the map storage, and the cursor of the next (0: that was the last).
    async fn list_page(&self, cursor: u64) -> Result<(Vec<Name>, u64)> {
        let scratch = self.scratch(LIST_PAGE_LEN).await?;
        let request = Request {
            offset: cursor,
            size: LIST_PAGE_NAMES,
            ..Request::new(Operation::List, Name::EMPTY)
        };
        let answer = self.ask(Side::Maps, request, Some(&scratch)).await?;
        let page = ListPage::decode(&scratch.to_vec()).map_err(|_| Errno::IO)?;
        Ok((page.names, answer.serviced))
    }

    /// LIST. With XF_FORCE it looks also into objects whose names no map of ours has.
    pub(crate) async fn list(&self) -> Result<Reply> {
        let (names, next) = self.list_page(self.request.offset).await?;
        let all = self.request.has(flags::FORCE);
        let maps = names.into_iter().filter(|name| all || may_be_map(name));
        let lines = window::each(WIDTH, maps, async |name| {
            self.list_line_or_warn(&name).await
        })
        .await;
        let mut text = format!("{}\n", json!({ "next": next }));
        text.extend(lines.into_iter().flatten());
        Ok(Reply::bytes(text.into_bytes()))
    }

    /// A scan does not fail on what it meets.
    async fn list_line_or_warn(&self, object: &Name) -> Option<String> {
        self.list_line(object).await.unwrap_or_else(|Errno(errno)| {
            tracing::warn!(%object, errno, "an object of the map storage can't be read");
            None
        })
    }

    /// The line of one object; `None`: it is no map, or went meanwhile.
    async fn list_line(&self, object: &Name) -> Result<Option<String>> {
        let Some(head) = self.read_map(object, 0, HEADER_LEN as u64).await? else {
            return Ok(None);
        };
        let Some(listing) = classify(object, &head) else {
            return Ok(None);
        };
        // Zeros past the end of a short object look like the rest of a hash.
        if is_hash_name(object)
            && self
                .object_size(Side::Maps, object)
                .await?
                .is_none_or(|len| len < HEADER_LEN as u64)
        {
            return Ok(None);
        }
        let line = json!({
            "name": Escaped(shown_name(object)).to_string(),
            "object": Escaped(object).to_string(),
            "version": listing.version,
            "read_only": listing.flags.readonly,
            "deleted": listing.flags.deleted,
            "size": Header::parse(&head).ok().map(|header| header.geometry.size()),
        });
        Ok(Some(format!("{line}\n")))
    }
}

/// Whether an object is worth looking into: chunks, data objects and locks are not.
fn may_be_map(name: &[u8]) -> bool {
    !matches!(
        reserved_form(name),
        Some(ReservedForm::LockSuffix | ReservedForm::HexRun)
    )
}
