//! A client of the cluster that is no part of a node: how tests look into pools, change them behind
//! a node's back, and hold locks as somebody else. (`outsider.py`, over Python's `rados`.)
//!
//! It stays connected, so that a look costs a millisecond and not the start of a program.

use crate::{Lab, Python};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

const SCRIPT: &str = include_str!("outsider.py");

/// What is seen of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Bytes.
    pub len: u64,
    /// sha256 of its content without the zeros at its end, in hexadecimal.
    pub sha256: String,
    /// Of an object `NAME_lock` without content: the client that holds the lock, as `client.4123`.
    pub locker: Option<String>,
    /// It is such an object.
    pub is_lock: bool,
}

/// The client; its process ends when it is dropped.
pub struct Outsider(Python);

impl Outsider {
    /// One that is `client.USER`.
    pub fn start(lab: &Lab, user: &str) -> io::Result<Outsider> {
        lab.start_python(SCRIPT, &[user]).map(Outsider)
    }

    fn ask(&mut self, mut order: Value) -> io::Result<Value> {
        self.0.write_line(&order.to_string())?;
        let line = self.0.read_line()?;
        let mut said: Value = serde_json::from_str(&line)?;
        match said["error"].as_i64() {
            None => Ok(said["answer"].take()),
            Some(errno) => {
                order["data"] = "...".into();
                let what = format!("{order}: errno {errno}: {}", said["said"]);
                Err(io::Error::other(what))
            }
        }
    }

    fn text(&mut self, order: Value) -> io::Result<Option<String>> {
        Ok(self.ask(order)?.as_str().map(str::to_owned))
    }

    /// Its name in the cluster: `client.4123`.
    pub fn name(&mut self) -> io::Result<String> {
        let name = self.text(json!({ "do": "me" }))?;
        name.ok_or_else(|| io::Error::other("it has no name"))
    }

    /// Its addresses, as librados prints them.
    pub fn addresses(&mut self) -> io::Result<String> {
        let addresses = self.text(json!({ "do": "addresses" }))?;
        addresses.ok_or_else(|| io::Error::other("it has no address"))
    }

    /// Removes every object of a pool.
    pub fn empty(&mut self, pool: &str) -> io::Result<()> {
        self.ask(json!({ "do": "empty", "pool": pool })).map(drop)
    }

    /// The pool was deleted, and perhaps made again.
    pub fn forget(&mut self, pool: &str) -> io::Result<()> {
        self.ask(json!({ "do": "forget", "pool": pool })).map(drop)
    }

    /// Every object of a pool by its name.
    pub fn facts(&mut self, pool: &str) -> io::Result<BTreeMap<String, Fact>> {
        let found = self.ask(json!({ "do": "facts", "pool": pool }))?;
        let found = found.as_object().into_iter().flatten();
        Ok(found
            .map(|(name, fact)| (name.clone(), to_fact(fact)))
            .collect())
    }

    /// An object's content; `None`: there is no such object.
    pub fn get(&mut self, pool: &str, object: &str) -> io::Result<Option<Vec<u8>>> {
        let text = self.text(json!({ "do": "get", "pool": pool, "name": object }))?;
        text.map(|text| from_hex(&text)).transpose()
    }

    /// Makes `bytes` the content of an object.
    pub fn put(&mut self, pool: &str, object: &str, bytes: &[u8]) -> io::Result<()> {
        let data = to_hex(bytes);
        self.ask(json!({ "do": "put", "pool": pool, "name": object, "data": data }))
            .map(drop)
    }

    /// Removes an object, which is there.
    pub fn remove(&mut self, pool: &str, object: &str) -> io::Result<()> {
        self.ask(json!({ "do": "remove", "pool": pool, "name": object }))
            .map(drop)
    }

    /// Makes the files below `tree/part` the objects of a pool, each under its own name.
    pub fn fill(&mut self, pool: &str, tree: &Path, part: &str) -> io::Result<()> {
        let order = json!({ "do": "fill", "pool": pool, "tree": tree, "part": part });
        self.ask(order).map(drop)
    }

    /// Makes files below `tree/part` of the objects of a pool, where their names' hashes say.
    pub fn take(&mut self, pool: &str, tree: &Path, part: &str) -> io::Result<()> {
        let order = json!({ "do": "take", "pool": pool, "tree": tree, "part": part });
        self.ask(order).map(drop)
    }

    /// Who holds the lock of a volume, as `client.4123`.
    pub fn holder(&mut self, pool: &str, volume: &str) -> io::Result<Option<String>> {
        let found = self.ask(json!({ "do": "holder", "pool": pool, "volume": volume }))?;
        Ok(found.as_u64().map(client))
    }

    /// Takes the lock of a volume; the original's has no description.
    pub fn lock(&mut self, pool: &str, volume: &str, description: &str) -> io::Result<()> {
        let order =
            json!({ "do": "lock", "pool": pool, "volume": volume, "description": description });
        self.ask(order).map(drop)
    }

    /// Gives it back, and tells nobody.
    pub fn unlock(&mut self, pool: &str, volume: &str) -> io::Result<()> {
        self.ask(json!({ "do": "unlock", "pool": pool, "volume": volume }))
            .map(drop)
    }

    /// Takes it from whoever has it, as the original does: nobody is cut off.
    pub fn break_lock(&mut self, pool: &str, volume: &str) -> io::Result<()> {
        self.ask(json!({ "do": "break_lock", "pool": pool, "volume": volume }))
            .map(drop)
    }
}

fn client(number: u64) -> String {
    format!("client.{number}")
}

fn to_fact(fact: &Value) -> Fact {
    Fact {
        len: fact["len"].as_u64().unwrap_or(0),
        sha256: fact["sha256"].as_str().unwrap_or_default().to_owned(),
        locker: fact["locker"].as_u64().map(client),
        is_lock: fact.get("locker").is_some(),
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> io::Result<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let bytes = digits.map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    bytes.ok_or_else(|| io::Error::other("this is no hexadecimal"))
}
