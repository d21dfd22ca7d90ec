//! A reader of the trees that the original wrote: just enough of a blocker and a mapper to turn a
//! volume's name into its content. It only reads, and panics on what it cannot read.

use mapfile::name::is_hash_name;
use mapfile::{Entry, MapLayout, Names, PageNo, Recognised, V0Hint, VolumeName, decode, recognise};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The objects below one `archip_dir`.
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(crate) fn new(root: PathBuf) -> Self {
        Tree { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// All files, by path.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut dirs = vec![self.root.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let list = if entry.file_type().unwrap().is_dir() {
                    &mut dirs
                } else {
                    &mut files
                };
                list.push(entry.path());
            }
        }
        files
    }

    /// The three places of `spec/choices.md`, "Looking for a name".
    fn find(&self, name: &[u8]) -> Option<PathBuf> {
        let hashed = sha256(name).map(|byte| format!("{byte:02x}"));
        let letters = match name.strip_prefix(b"archip_") {
            Some(rest) => rest,
            None if is_hash_name(name) => name,
            None => &[],
        };
        let six = letters
            .get(..6)
            .map(|six| [&six[..2], &six[2..4], &six[4..]]);
        let hashed = [
            hashed[0].as_bytes(),
            hashed[1].as_bytes(),
            hashed[2].as_bytes(),
        ];
        let mut places = [Some(hashed), six].into_iter().flatten().map(|dirs| {
            let path = dirs.iter().fold(self.root.clone(), |path, dir| {
                path.join(OsStr::from_bytes(dir))
            });
            path.join(OsStr::from_bytes(name))
        });
        places.find(|path| path.exists())
    }

    /// `len` bytes at `offset`, filled up with zeros; None if there is no such object.
    pub(crate) fn read(&self, name: &[u8], offset: u64, len: usize) -> Option<Vec<u8>> {
        let file = File::open(self.find(name)?).unwrap();
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            match file
                .read_at(&mut bytes[done..], offset + done as u64)
                .unwrap()
            {
                0 => break,
                read => done += read,
            }
        }
        Some(bytes)
    }

    fn len(&self, name: &[u8]) -> Option<u64> {
        Some(self.find(name)?.metadata().unwrap().len())
    }
}

/// A volume, loaded page by page.
pub(crate) struct Volume {
    pub(crate) found: Recognised,
    pub(crate) layout: MapLayout,
    pub(crate) entries: Vec<Entry>,
    pub(crate) names: Names,
}

impl Volume {
    /// Loads the map of `name`, or of `archip_` + `name`.
    pub(crate) fn load(maps: &Tree, name: &str, hint: Option<V0Hint>) -> Volume {
        let volume = VolumeName::new(name.as_bytes()).unwrap();
        let candidates = [Some(volume.header()), volume.fallback_header()];
        let (header, len) = candidates
            .into_iter()
            .flatten()
            .find_map(|header| Some((header.clone(), maps.len(header.as_bytes())?)))
            .unwrap_or_else(|| panic!("{name} is not in {}", maps.root.display()));
        let read = |name: &[u8], offset, len| maps.read(name, offset, len).unwrap();
        let head = read(header.as_bytes(), 0, 512);
        let found = match recognise(&head, len, hint).unwrap() {
            Recognised::V0Tail(_) => panic!("{name} is not large"),
            settled => settled,
        };
        let layout = found.layout().unwrap();
        let (mut names, mut entries) = (Names::new(), Vec::new());
        for page in (0..layout.page_count()).map(PageNo) {
            let place = layout.page_place(page);
            let object = place.object.name(&header);
            let bytes = read(object.as_bytes(), place.offset, place.len as usize);
            let first = layout.page_blocks(page).start;
            entries.extend(decode(layout.version(), &bytes, first, &mut names).unwrap());
        }
        Volume {
            found,
            layout,
            entries,
            names,
        }
    }

    /// sha256 of the whole content, in hexadecimal.
    pub(crate) fn hash(&self, blocks: &Tree) -> String {
        let mut hash = Sha256::new();
        for (index, entry) in (0..).zip(&self.entries) {
            let len = self.layout.geometry().block_len(index) as usize;
            hash.update(self.block(*entry, index, len, blocks));
        }
        hex(&hash.finalize())
    }

    fn block(&self, entry: Entry, index: u64, len: usize, blocks: &Tree) -> Vec<u8> {
        assert!(!entry.is_deleted());
        if entry.is_zero() {
            return vec![0; len];
        }
        let name = entry.name(&self.names, index);
        let content = blocks.read(name.as_bytes(), 0, len);
        assert!(content.is_some() || entry.is_archip(), "{name} is missing");
        content.unwrap_or_else(|| vec![0; len])
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
