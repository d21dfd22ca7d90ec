//! The licences of the crates inside the programs, whose notices go with every copy of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::stage::RADOS;
use super::{cargo, failed};

/// One text: every crate from elsewhere that `crates` are linked of, and each notice once.
pub(super) fn text(crates: &[&str]) -> io::Result<String> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--features", RADOS])
        .output()?;
    if !output.status.success() {
        return Err(failed("cargo metadata fails"));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let mut text = "Archipelago's programs contain these crates:\n\n".to_owned();
    let mut notices: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in linked(&metadata, crates) {
        let word = |key: &str| package[key].as_str().unwrap_or_default();
        let name = format!("{} {}", word("name"), word("version"));
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name}, {}, {}", word("license"), word("repository"));
        let dir = Path::new(word("manifest_path"))
            .parent()
            .unwrap_or(Path::new(""));
        for notice in notices_in(dir)? {
            notices.entry(notice).or_default().push(name.clone());
        }
    }
    for (notice, names) in notices {
        let line = "-".repeat(78);
        let _ = write!(text, "\n{line}\n{}:\n\n{notice}\n", names.join(", "));
    }
    Ok(text)
}

/// The packages that are linked into `crates` and come from a registry, by name.
fn linked<'a>(metadata: &'a Value, crates: &[&str]) -> Vec<&'a Value> {
    let packages: HashMap<&str, &Value> = array(&metadata["packages"])
        .iter()
        .map(|package| (id(&package["id"]), package))
        .collect();
    let needs: HashMap<&str, Vec<&str>> = array(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| {
            // A dependency of no kind is one of the program, not of its build or its tests.
            let is_linked =
                |dep: &&Value| array(&dep["dep_kinds"]).iter().any(|k| k["kind"].is_null());
            let deps = array(&node["deps"]).iter().filter(is_linked);
            (id(&node["id"]), deps.map(|dep| id(&dep["pkg"])).collect())
        })
        .collect();
    let ours = |package: &&&Value| crates.contains(&package["name"].as_str().unwrap_or_default());
    let mut todo: Vec<&str> = packages
        .values()
        .filter(ours)
        .map(|p| id(&p["id"]))
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(next) = todo.pop() {
        if seen.insert(next) {
            todo.extend(needs.get(next).into_iter().flatten());
        }
    }
    let mut found: Vec<&Value> = seen
        .iter()
        .filter_map(|id| packages.get(id).copied())
        .collect();
    found.retain(|package| !package["source"].is_null());
    found.sort_by_key(|package| package["name"].as_str());
    found
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn id(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The notices that lie beside a crate's manifest.
fn notices_in(dir: &Path) -> io::Result<Vec<String>> {
    let mut notices = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_uppercase();
        let is_notice = [
            "LICENSE",
            "LICENCE",
            "COPYING",
            "COPYRIGHT",
            "NOTICE",
            "UNLICENSE",
        ];
        if path.is_file() && is_notice.iter().any(|begin| name.starts_with(begin)) {
            let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            notices.push(text.replace("\r\n", "\n").trim().to_owned());
        }
    }
    Ok(notices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What only a build or a test needs is in no program.
    #[test]
    fn only_what_is_linked_counts() {
        let package =
            |name: &str, source: Value| json!({ "id": name, "name": name, "source": source });
        let dep = |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let far = || json!("registry");
        let metadata = json!({
            "packages": [package("vlmc", Value::Null), package("ours", Value::Null), package("b", far()),
                         package("a", far()), package("tests", far()), package("other", far())],
            "resolve": { "nodes": [
                { "id": "vlmc", "deps": [dep("ours", Value::Null), dep("tests", json!("dev"))] },
                { "id": "ours", "deps": [dep("b", Value::Null)] },
                { "id": "b", "deps": [dep("a", Value::Null), dep("b", Value::Null)] },
            ] },
        });
        let found = linked(&metadata, &["vlmc"]);
        let names: Vec<&str> = found.iter().filter_map(|p| p["name"].as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
