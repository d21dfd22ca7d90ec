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

use crate::errno::Result;
use crate::job::{Job, Reply};
use crate::store::Side;
use crate::window;
use mapfile::header::HEADER_LEN;
use mapfile::name::{Escaped, is_hash_name, reserved_form};
use mapfile::{Header, ReservedForm, classify, shown_name};
use serde_json::json;
use xseg::Name;

/// Headers read at once.
const WIDTH: usize = 16;

impl Job {
    /// LIST.
    pub(crate) async fn list(&self) -> Result<Reply> {
        let (names, next) = self.list_page(self.request.offset).await?;
        let maps = names.into_iter().filter(|name| may_be_map(name));
        let lines = window::each(WIDTH, maps, async |name| self.list_line(&name).await).await;
        let mut text = format!("{}\n", json!({ "next": next }));
        for line in lines {
            text.extend(line?);
        }
        Ok(Reply::bytes(text.into_bytes()))
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
