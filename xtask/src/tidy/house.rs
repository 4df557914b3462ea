//! Rules about the workspace as a whole: manifests, members, lock file, map.

use super::Fault;
use super::tree::Tree;

const PLBA: &str = "crates/plba";

/// Cargo features exist in `crates/plba` only, and so does code that asks for them.
pub(super) fn features(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for package in tree.packages.iter().filter(|package| package.room != PLBA) {
        for feature in &package.features {
            let message = format!("feature `{feature}`: features exist in {PLBA} only; split the crate instead");
            faults.push(Fault::new(&package.manifest(), 1, message));
        }
    }
    let elsewhere = tree.sources().filter(|(path, _)| !path.starts_with("crates/plba/"));
    for (path, source) in elsewhere {
        for (at, line) in source.bare.lines().enumerate() {
            let squeezed: String = line.split_whitespace().collect();
            if squeezed.contains("feature=") || squeezed.contains("cfg(feature") {
                let message = format!("code behind a feature: that happens in {PLBA} only; split the crate instead");
                faults.push(Fault::new(path, at + 1, message));
            }
        }
    }
    faults
}

/// Versions and features of dependencies are chosen in the root manifest, so that every command compiles the same.
pub(super) fn versions(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for package in &tree.packages {
        let manifest = package.manifest();
        let Some(file) = tree.file(&manifest) else { continue };
        for (line, dependency) in dependencies(&file.text) {
            let chosen_at_root = dependency.contains("workspace = true");
            // The clock that tests pause is the one difference between what runs and what is tested.
            let for_tests = dependency.contains("features = [\"test-util\"]");
            // An application chooses among the features of `plba`: that is what they are for.
            let of_plba = dependency.starts_with("plba.") || dependency.starts_with("plba ");
            if !chosen_at_root {
                let message =
                    "a version of its own: choose it in [workspace.dependencies] and write `workspace = true`";
                faults.push(Fault::new(&manifest, line, message));
            } else if dependency.contains("features") && !of_plba && !for_tests {
                let message = "features of its own: choose them in [workspace.dependencies], once for all";
                faults.push(Fault::new(&manifest, line, message));
            }
        }
    }
    faults
}

/// A bare `cargo run` runs the application.
pub(super) fn default_members(tree: &Tree) -> Vec<Fault> {
    if tree.packages.is_empty() {
        return Vec::new();
    }
    let is_app = |name: &String| {
        tree.packages
            .iter()
            .any(|package| package.name == *name && package.room.starts_with("apps/"))
    };
    if !tree.default_members.is_empty() && tree.default_members.iter().all(is_app) {
        return Vec::new();
    }
    let line = super::edges::line_of(tree, "Cargo.toml", "default-members");
    vec![Fault::new(
        "Cargo.toml",
        line,
        "default-members names the application and nothing else: `cargo run` runs it",
    )]
}

/// The benches are a workspace of their own, so that the peers they measure stay out of this lock file.
pub(super) fn benches(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for package in tree
        .packages
        .iter()
        .filter(|package| package.room.starts_with("benches"))
    {
        let message = "a member of this workspace: add `benches` to `exclude`; benches are a workspace of their own";
        faults.push(Fault::new(&package.manifest(), 1, message));
    }
    if let Some(file) = tree.file("benches/Cargo.toml")
        && !file.text.lines().any(|line| line.trim() == "[workspace]")
    {
        faults.push(Fault::new(
            "benches/Cargo.toml",
            1,
            "add `[workspace]`: the benches are a workspace of their own",
        ));
    }
    faults
}

/// What was resolved once is resolved for everyone.
pub(super) fn lock_file(tree: &Tree) -> Vec<Fault> {
    let there = tree.file("Cargo.lock").is_some();
    if tree.packages.is_empty() || (there && tree.lock_is_committed != Some(false)) {
        return Vec::new();
    }
    vec![Fault::new(
        "Cargo.lock",
        1,
        "commit the lock file: an application is built the same everywhere",
    )]
}

/// ARCHITECTURE.md's code map names every crate.
pub(super) fn code_map(tree: &Tree) -> Vec<Fault> {
    const MAP: &str = "ARCHITECTURE.md";
    let map = tree.file(MAP).map_or("", |file| file.text.as_str());
    let named = |name: &str| {
        let letter = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_';
        map.match_indices(name).any(|(at, _)| {
            let before = map[..at].chars().next_back().is_some_and(letter);
            let after = map[at + name.len()..].chars().next().is_some_and(letter);
            !before && !after
        })
    };
    let missing = tree.packages.iter().filter(|package| !named(&package.name));
    missing
        .map(|package| {
            Fault::new(
                MAP,
                1,
                format!("the code map lacks `{}`: say what it is for", package.name),
            )
        })
        .collect()
}

/// The dependencies of a manifest, each a line (or a table's lines, joined), with where it stands.
fn dependencies(manifest: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut inside, mut table) = (false, false);
    for (at, line) in manifest.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(header) = line.strip_prefix('[').filter(|_| line.ends_with(']')) {
            let header = header.trim_end_matches(']');
            inside = header.ends_with("dependencies") && header != "workspace.dependencies";
            table = header.contains("dependencies.") && !header.starts_with("workspace.");
            if table {
                let name = header.rsplit("dependencies.").next().unwrap_or_default();
                found.push((at + 1, format!("{name} =")));
            }
        } else if table && let Some((_, dependency)) = found.last_mut() {
            dependency.push_str(&format!(" {line}"));
        } else if inside && !line.is_empty() {
            found.push((at + 1, line.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree::Package;
    use super::*;

    fn tree(files: &[(&str, &str)], rooms: &[&str]) -> Tree {
        Tree {
            packages: rooms.iter().map(|room| Package::of(room, "")).collect(),
            ..Tree::of(files)
        }
    }

    #[test]
    fn features_exist_in_plba_only() {
        for (path, text, expected) in [
            ("crates/plba/src/lib.rs", "#[cfg(feature = \"mail\")]", 0),
            ("crates/plba-runtime/src/lib.rs", "#[cfg(feature = \"mail\")]", 1),
            (
                "crates/plba-runtime/src/lib.rs",
                "#[cfg(all(unix, feature=\"mail\"))]",
                1,
            ),
            (
                "crates/plba-runtime/src/lib.rs",
                "// #[cfg(feature = \"mail\")]\n#[cfg(test)]",
                0,
            ),
        ] {
            assert_eq!(features(&tree(&[(path, text)], &[])).len(), expected, "{path}: {text}");
        }
        let mut house = tree(&[], &["crates/plba", "adapters/plba-mail"]);
        for package in &mut house.packages {
            package.features.push("idle".to_owned());
        }
        let found = features(&house);
        assert_eq!(
            found.iter().map(|fault| fault.file.as_str()).collect::<Vec<_>>(),
            ["adapters/plba-mail/Cargo.toml"]
        );
    }

    #[test]
    fn versions_and_features_are_chosen_in_the_root() {
        let manifest = "\
[package]
version = \"1\"
[dependencies]
serde.workspace = true
plba = { workspace = true, features = [\"mail\"] }
bytes = \"1\" # ours
tokio = { workspace = true, features = [\"net\"] }
[dev-dependencies]
plba-mail = { workspace = true, optional = true }
url = { version = \"2\" }
time = { workspace = true, features = [\"test-util\"] }
[dependencies.jiff]
version = \"0.2\"
[lints]
workspace = true
";
        let house = tree(&[("apps/bot/Cargo.toml", manifest)], &["apps/bot"]);
        assert_eq!(
            versions(&house).iter().map(|fault| fault.line).collect::<Vec<_>>(),
            [6, 7, 10, 12]
        );
    }

    #[test]
    fn a_bare_run_runs_the_application() {
        for (members, faults) in [(&["bot"][..], 0), (&[], 1), (&["bot", "xtask"], 1)] {
            let mut house = tree(&[], &["apps/bot", "xtask"]);
            house.default_members = members.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(default_members(&house).len(), faults, "{members:?}");
        }
    }

    #[test]
    fn benches_are_a_workspace_of_their_own() {
        assert_eq!(
            benches(&tree(&[("benches/Cargo.toml", "[workspace]\n")], &["xtask"])),
            []
        );
        assert_eq!(
            benches(&tree(&[("benches/Cargo.toml", "[package]\n")], &["xtask"])).len(),
            1
        );
        assert_eq!(benches(&tree(&[], &["benches"])).len(), 1);
    }

    #[test]
    fn the_lock_file_is_committed() {
        for (files, committed, faults) in [
            (&[("Cargo.lock", "#")][..], Some(true), 0),
            (&[("Cargo.lock", "#")], None, 0),
            (&[("Cargo.lock", "#")], Some(false), 1),
            (&[], None, 1),
        ] {
            let house = Tree {
                lock_is_committed: committed,
                ..tree(files, &["xtask"])
            };
            assert_eq!(lock_file(&house).len(), faults, "{committed:?}");
        }
    }

    #[test]
    fn the_code_map_names_every_crate() {
        let map = [("ARCHITECTURE.md", "`plba-mail` and `xtask`\n")];
        let found = code_map(&tree(&map, &["crates/plba", "adapters/plba-mail", "xtask"]));
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("`plba`"), "{found:?}");
    }
}
