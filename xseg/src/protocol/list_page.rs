//! The reply of LIST between peers: a page of object names, little-endian.
//!
//! ```text
//!  | count u32 | name length u16 | name | name length u16 | name | ...
//! ```
//! The cursor of the next page is the answer's `serviced`, 0 after the last. Bytes behind the last
//! name mean nothing: a page lies in a buffer that may be longer.

use super::BadStructure;
use crate::name::{Name, TARGET_LEN_MAX};

/// The names of one page.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// In no order.
    pub names: Vec<Name>,
}

impl ListPage {
    /// Lays the page out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = (self.names.len() as u32).to_le_bytes().to_vec();
        for name in &self.names {
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(name);
        }
        out
    }

    /// Reads a page; a count or a length that lies is refused.
    pub fn decode(bytes: &[u8]) -> Result<ListPage, BadStructure> {
        let (count, mut rest) = bytes.split_first_chunk::<4>().ok_or(BadStructure::Short)?;
        let mut names = Vec::new();
        for _ in 0..u32::from_le_bytes(*count) {
            let (len, tail) = rest.split_first_chunk::<2>().ok_or(BadStructure::Short)?;
            let len = usize::from(u16::from_le_bytes(*len));
            if len > TARGET_LEN_MAX {
                return Err(BadStructure::NameLength);
            }
            let (name, tail) = tail.split_at_checked(len).ok_or(BadStructure::Short)?;
            names.push(Name::new(name).ok_or(BadStructure::NameLength)?);
            rest = tail;
        }
        Ok(ListPage { names })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_far_as_it_says() {
        let names = ["one", "three"].map(|name| Name::try_from(name).unwrap());
        let page = ListPage {
            names: names.to_vec(),
        };
        let mut bytes = page.encode();
        let cut = bytes.len() - 1;
        assert_eq!(ListPage::decode(&bytes[..cut]), Err(BadStructure::Short));
        bytes.extend_from_slice(&[0; 10]);
        assert_eq!(ListPage::decode(&bytes), Ok(page));
        let long = [1, 0, 0, 0, 255, 255];
        assert_eq!(ListPage::decode(&long), Err(BadStructure::NameLength));
    }
}
