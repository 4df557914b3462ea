//! Who may depend on whom. The table is the house's: ARCHITECTURE.md draws the same edges.

use super::Fault;
use super::tree::{Package, Tree};
use Layer::{Adapter, App, Contracts, Net, Plba, Runtime, Schedules, Tasks, Testkit, Testservers, Xtask};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Contracts,
    Runtime,
    Schedules,
    Tasks,
    Net,
    Testkit,
    Plba,
    Adapter,
    Testservers,
    App,
    Xtask,
}

impl Layer {
    fn of(room: &str) -> Option<Layer> {
        Some(match room {
            "crates/plba" => Plba,
            "crates/plba-contracts" => Contracts,
            "crates/plba-runtime" => Runtime,
            "crates/plba-schedules" => Schedules,
            "crates/plba-tasks" => Tasks,
            "crates/plba-net" => Net,
            "crates/plba-testkit" => Testkit,
            "adapters/plba-testservers" => Testservers,
            "xtask" => Xtask,
            _ if room.starts_with("adapters/") => Adapter,
            _ if room.starts_with("apps/") => App,
            _ => return None,
        })
    }

    /// What it may build on.
    fn normal(self) -> &'static [Layer] {
        match self {
            Contracts => &[],
            Runtime | Schedules | Tasks | Net => &[Contracts],
            Testkit => &[Contracts, Tasks, Runtime],
            Adapter => &[Contracts, Tasks, Net],
            Testservers => &[Contracts, Net, Testkit],
            Plba => &[Contracts, Runtime, Tasks, Net, Testkit, Adapter],
            App => &[Plba],
            Xtask => &[Contracts, Runtime, Tasks, Net, Testkit, Plba, Adapter, Testservers, App],
        }
    }

    /// What its tests may use besides.
    fn dev(self) -> &'static [Layer] {
        match self {
            Adapter | App | Testservers => &[Testkit, Testservers],
            _ => &[],
        }
    }
}

/// The edges between the workspace's own packages are those of the table.
pub(super) fn edges(tree: &Tree) -> Vec<Fault> {
    tree.packages
        .iter()
        .flat_map(|package| of_package(tree, package))
        .collect()
}

fn of_package(tree: &Tree, package: &Package) -> Vec<Fault> {
    let manifest = package.manifest();
    let Some(layer) = Layer::of(&package.room) else {
        let message = "this room isn't in the house: put the crate under adapters/ or apps/, or give it a layer in \
                       xtask/src/tidy/edges.rs and ARCHITECTURE.md";
        return vec![Fault::new(&manifest, 1, message)];
    };
    let mut faults = Vec::new();
    for dependency in &package.dependencies {
        let Some(target) = tree.packages.iter().find(|other| other.name == dependency.name) else {
            continue;
        };
        let Some(below) = Layer::of(&target.room) else { continue };
        let allowed = layer.normal().contains(&below) || (dependency.dev && layer.dev().contains(&below));
        if !allowed && target.name != package.name {
            let line = line_of(tree, &manifest, &dependency.name);
            faults.push(Fault::new(
                &manifest,
                line,
                refusal(package, layer, target, dependency.dev),
            ));
        }
    }
    faults
}

fn refusal(package: &Package, layer: Layer, target: &Package, dev: bool) -> String {
    let (from, to) = (&package.name, &target.name);
    let kind = if dev { "in its tests " } else { "" };
    let remedy = match (layer, Layer::of(&target.room)) {
        (Adapter, Some(Runtime)) => "what an adapter needs of the runtime belongs into a contract",
        (Adapter, Some(Adapter)) => "what adapters share belongs into plba-net or a contract",
        (App, _) => "an application sees `plba` only: re-export there what it needs",
        (Contracts, _) => "contracts know nobody: turn the dependency round",
        _ => "ask for a contract and let the wiring in `plba` bring the two together",
    };
    format!("{from} may not depend {kind}on {to}: {remedy}")
}

/// The line of a manifest that names a dependency.
pub(super) fn line_of(tree: &Tree, manifest: &str, dependency: &str) -> usize {
    let names = |line: &str| {
        line.trim_start()
            .strip_prefix(dependency)
            .is_some_and(|rest| rest.starts_with([' ', '.', '=']))
    };
    let lines = tree.file(manifest).and_then(|file| file.text.lines().position(names));
    lines.map_or(1, |line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMS: [&str; 11] = [
        "crates/plba",
        "crates/plba-contracts",
        "crates/plba-runtime",
        "crates/plba-tasks",
        "crates/plba-net",
        "crates/plba-testkit",
        "adapters/plba-mail",
        "adapters/plba-http",
        "adapters/plba-testservers",
        "apps/mail-order-bot",
        "xtask",
    ];

    /// The faults of a house where `room` has these dependencies and the other rooms have none.
    fn faults(room: &str, dependencies: &str) -> Vec<Fault> {
        let mut tree = Tree::of(&[(
            &format!("{room}/Cargo.toml"),
            "[dependencies]\nplba-runtime.workspace = true\n",
        )]);
        let others = ROOMS
            .iter()
            .filter(|other| **other != room)
            .map(|other| Package::of(other, ""));
        tree.packages = others.chain([Package::of(room, dependencies)]).collect();
        edges(&tree)
    }

    #[test]
    fn allowed_edges_pass() {
        for (room, dependencies) in [
            ("crates/plba-contracts", "serde, thiserror"),
            ("crates/plba-runtime", "plba-contracts, tokio"),
            ("crates/plba-tasks", "plba-contracts"),
            ("crates/plba-net", "plba-contracts, rustls"),
            ("crates/plba-testkit", "plba-contracts, plba-tasks, plba-runtime"),
            (
                "crates/plba",
                "plba-contracts, plba-runtime, plba-tasks, plba-mail, plba-http",
            ),
            (
                "adapters/plba-mail",
                "plba-contracts, plba-tasks, plba-net, dev plba-testkit, dev plba-testservers",
            ),
            ("adapters/plba-testservers", "plba-testkit, plba-net, plba-contracts"),
            ("apps/mail-order-bot", "plba, dev plba-testkit, dev plba-testservers"),
            ("xtask", "plba-runtime, plba-mail"),
        ] {
            assert_eq!(faults(room, dependencies), [], "{room}: {dependencies}");
        }
    }

    #[test]
    fn forbidden_edges_are_named() {
        for (room, dependency) in [
            ("crates/plba-contracts", "plba-runtime"),
            ("crates/plba-runtime", "plba-tasks"),
            ("crates/plba-runtime", "plba-http"),
            ("crates/plba-tasks", "plba-runtime"),
            ("crates/plba-net", "plba-tasks"),
            ("crates/plba", "mail-order-bot"),
            ("crates/plba", "plba-testservers"),
            ("adapters/plba-mail", "plba-runtime"),
            ("adapters/plba-mail", "dev plba-runtime"),
            ("adapters/plba-mail", "plba-http"),
            ("adapters/plba-mail", "plba-testkit"),
            ("adapters/plba-mail", "plba"),
            ("apps/mail-order-bot", "plba-mail"),
            ("apps/mail-order-bot", "plba-testservers"),
        ] {
            let found = faults(room, dependency);
            assert_eq!(found.len(), 1, "{room}: {dependency}: {found:?}");
            assert!(
                found[0].message.contains(dependency.trim_start_matches("dev ")),
                "{found:?}"
            );
        }
    }

    #[test]
    fn the_line_of_the_manifest_is_named() {
        assert_eq!(faults("adapters/plba-mail", "plba-runtime")[0].line, 2);
    }

    #[test]
    fn a_crate_in_no_room_is_refused() {
        let tree = Tree {
            packages: vec![Package::of("crates/plba-extras", "")],
            ..Tree::default()
        };
        assert!(edges(&tree)[0].message.contains("isn't in the house"));
    }
}
