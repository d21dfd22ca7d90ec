//! Readers: each asks one node for what is in a tree, and checks what it says.

use super::broken::Broken;
use super::old::{BLOCK, Map, Object, Tree};
use client::Client;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use xseg::Request;
use xseg::protocol::{MapReply, NameRequest, Operation, PortNo, flags};

/// How often a volume may be lost while it is read once.
const LOSSES_MAX: u32 = 100;

/// What readers and whoever kills tell each other.
#[derive(Default)]
pub(super) struct Signals {
    pub(super) served: AtomicU64,
    pub(super) stop: AtomicBool,
}

/// What is wrong with an answer.
pub(super) type Wrong = String;

/// A client of one node, the tree that it knows, and what excuses an error.
pub(super) struct Reader<'a> {
    pub(super) client: &'a Client,
    pub(super) tree: &'a Tree,
    pub(super) broken: &'a Broken,
}

/// Random questions until told to stop, or until an answer is wrong.
pub(super) fn read(reader: &Reader<'_>, seed: u64, signals: &Signals) -> Result<(), Wrong> {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    while !signals.stop.load(Relaxed) {
        reader.ask_anything(&mut dice)?;
        signals.served.fetch_add(1, Relaxed);
    }
    Ok(())
}

fn name(text: &str) -> xseg::Name {
    xseg::Name::try_from(text).expect("names here are short")
}

fn pick<'a, T>(all: &'a [T], dice: &mut ChaCha8Rng) -> &'a T {
    &all[dice.random_range(0..all.len())]
}

impl Reader<'_> {
    fn ask_anything(&self, dice: &mut ChaCha8Rng) -> Result<(), Wrong> {
        match dice.random_range(0..20) {
            0..7 => self.read_block(pick(&self.tree.blocks, dice)),
            7..11 => self.info(pick(&self.tree.blocks, dice)),
            11..14 => self.read_map(pick(&self.tree.maps, dice)),
            14 => self.read_volume(),
            15..18 => self.upload(pick(&self.tree.uploads, dice)),
            _ => self.hash(pick(&self.tree.sources, dice)),
        }
    }

    /// Everything once: afterwards nothing of it is on its way any more.
    pub(super) fn ask_everything(&self) -> Result<(), Wrong> {
        let tree = self.tree;
        for upload in &tree.uploads {
            self.upload(upload)?;
        }
        for source in &tree.sources {
            self.hash(source)?;
        }
        for block in tree
            .blocks
            .iter()
            .chain(&tree.uploads)
            .chain([&tree.object])
        {
            self.info(block)?;
            self.read_block(block)?;
        }
        for map in &tree.maps {
            self.read_map(map)?;
        }
        self.read_volume()
    }

    fn ask(
        &self,
        port: PortNo,
        request: Request,
        bytes: &[u8],
        room: usize,
    ) -> Result<Vec<u8>, Wrong> {
        let call = self.client.call(port, request, bytes, room);
        match self.client.block_on(call) {
            Ok(reply) => Ok(reply.bytes),
            Err(errno) => {
                let why = nix::errno::Errno::from_raw(errno);
                let operation = request.operation();
                Err(format!("{operation:?} of {:?}: {why}", request.target))
            }
        }
    }

    /// X_READ by hash, more than there is: the rest is zeros.
    fn read_block(&self, block: &Object) -> Result<(), Wrong> {
        let size = block.content.len() + 100;
        let request = Request {
            size: size as u64,
            ..Request::new(Operation::Read, name(&block.name))
        };
        let bytes = self.ask(self.client.ports().blockerb, request, &[], size)?;
        let (content, rest) = bytes.split_at(block.content.len());
        match content == block.content && rest[..100] == [0; 100] {
            true => Ok(()),
            false => Err(format!("READ of {}: other bytes", block.name)),
        }
    }

    /// X_INFO, by which Pithos finds out whether it has a block.
    fn info(&self, block: &Object) -> Result<(), Wrong> {
        let request = Request::new(Operation::Info, name(&block.name));
        let bytes = self.ask(self.client.ports().blockerb, request, &[], 8)?;
        let size = bytes.first_chunk().map(|size| u64::from_le_bytes(*size));
        // With O_DIRECT what is written by a node is padded to sectors.
        let len = block.content.len() as u64;
        match size {
            Some(size) if size == len || size == len.next_multiple_of(512) => Ok(()),
            other => Err(format!(
                "INFO of {}: {other:?} instead of {len}",
                block.name
            )),
        }
    }

    /// X_MAPR as Pithos sends it, and the X_CLOSE that follows.
    fn read_map(&self, map: &Map) -> Result<(), Wrong> {
        let mapperd = self.client.ports().mapperd;
        let request = Request {
            size: map.size,
            flags: flags::ASSUME_V0,
            v0_size: map.size,
            ..Request::new(Operation::MapRead, name(&map.name))
        };
        let room = MapReply::len_for(map.blocks.len());
        let bytes = self.ask(mapperd, request, &[], room)?;
        let reply = MapReply::decode(&bytes).map_err(|why| format!("MAPR: {why}"))?;
        let names: Vec<String> = reply.segments.iter().map(|s| s.name.to_string()).collect();
        if names != map.blocks {
            return Err(format!("MAPR of {}: {names:?}", map.name));
        }
        self.close(&map.name);
        Ok(())
    }

    /// A read of the volume of 0.3, whichever name and format it has now.
    fn read_volume(&self) -> Result<(), Wrong> {
        let (volume, content) = (&self.tree.volume, &self.tree.object.content);
        let request = Request {
            size: content.len() as u64,
            ..Request::new(Operation::Read, name(volume))
        };
        let vlmcd = self.client.ports().vlmcd;
        let mut told = 0;
        let bytes = loop {
            let call = self.client.call(vlmcd, request, &[], content.len());
            match self.client.block_on(call) {
                Ok(reply) => break reply.bytes,
                // The other node found us dead and took the lock of a volume that can be written
                // to: who had it open has to say that he knows.
                Err(libc::ESTALE) if told < LOSSES_MAX && self.broken.has(volume) => {
                    told += 1;
                    self.close(volume);
                }
                Err(errno) => {
                    let why = nix::errno::Errno::from_raw(errno);
                    return Err(format!("READ of volume {volume}: {why}"));
                }
            }
        };
        if !bytes.starts_with(content) {
            return Err(format!("READ of volume {volume}: other bytes"));
        }
        self.close(volume);
        Ok(())
    }

    /// As Pithos it does not matter to us whether it was open: another reader may have closed it.
    fn close(&self, volume: &str) {
        let request = Request::new(Operation::Close, name(volume));
        let call = self
            .client
            .call(self.client.ports().mapperd, request, &[], 0);
        let _ = self.client.block_on(call);
    }

    /// X_WRITE of a new block; the other node may be storing the same.
    fn upload(&self, block: &Object) -> Result<(), Wrong> {
        let request = Request {
            size: block.content.len() as u64,
            ..Request::new(Operation::Write, name(&block.name))
        };
        let blockerb = self.client.ports().blockerb;
        self.ask(blockerb, request, &block.content, 0)?;
        self.read_block(block)
    }

    /// X_HASH, which stores what it hashes.
    fn hash(&self, source: &Object) -> Result<(), Wrong> {
        let request = Request {
            size: BLOCK,
            ..Request::new(Operation::Hash, name(&source.name))
        };
        let blockerb = self.client.ports().blockerb;
        let bytes = self.ask(blockerb, request, &[], NameRequest::LEN)?;
        let hash = NameRequest::decode(&bytes)
            .map_err(|why| format!("HASH: {why}"))?
            .0;
        let expected = system_tests::golden::tree::sha256(&source.content);
        match hash.as_bytes() == expected.as_bytes() {
            true => Ok(()),
            false => Err(format!("HASH of {}: {hash:?}", source.name)),
        }
    }
}
