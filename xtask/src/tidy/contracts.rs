//! What contracts have to be: traits that work as `dyn`, and free of any executor.

use super::tree::Tree;
use super::{Fault, edges};

const ROOM: &str = "crates/plba-contracts";

/// What would tie everyone who implements a contract to one way of running futures.
const EXECUTORS: [&str; 9] = [
    "tokio",
    "tokio-util",
    "async-std",
    "smol",
    "async-executor",
    "async-io",
    "futures-executor",
    "monoio",
    "glommio",
];

/// The contracts depend on no executor.
pub(super) fn no_executor(tree: &Tree) -> Vec<Fault> {
    let Some(package) = tree.packages.iter().find(|package| package.room == ROOM) else {
        return Vec::new();
    };
    let executors = package
        .dependencies
        .iter()
        .filter(|dependency| !dependency.dev && EXECUTORS.contains(&dependency.name.as_str()));
    executors
        .map(|dependency| {
            let name = &dependency.name;
            let manifest = package.manifest();
            let message = format!("contracts run on any executor: move what needs {name} to the runtime");
            Fault::new(&manifest, edges::line_of(tree, &manifest, name), message)
        })
        .collect()
}

/// The traits of the contracts have no type parameters; lifetimes are allowed.
pub(super) fn no_type_parameters(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, source) in tree
        .sources()
        .filter(|(path, _)| path.starts_with("crates/plba-contracts/src/"))
    {
        for (at, line) in source.bare.lines().enumerate() {
            if let Some(name) = generic_trait(line) {
                let message =
                    format!("trait {name} has a type parameter: contracts work as `dyn`; take a boxed or plain value");
                faults.push(Fault::new(path, at + 1, message));
            }
        }
    }
    faults
}

/// The name of the public trait that this line declares with a type or const parameter.
fn generic_trait(line: &str) -> Option<&str> {
    let declared = line.trim_start().strip_prefix("pub trait ")?;
    let end = declared.find(|letter: char| !letter.is_alphanumeric() && letter != '_')?;
    let (name, rest) = declared.split_at(end);
    let parameters = rest.strip_prefix('<')?.split('>').next()?;
    let is_type = |parameter: &str| !parameter.trim().is_empty() && !parameter.trim().starts_with('\'');
    parameters.split(',').any(is_type).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::tree::Package;
    use super::*;

    #[test]
    fn an_executor_is_refused_in_contracts_but_not_in_their_tests() {
        let faults = |dependencies: &str| {
            let tree = Tree {
                packages: vec![Package::of(ROOM, dependencies)],
                ..Tree::default()
            };
            no_executor(&tree).len()
        };
        assert_eq!(faults("serde, tokio"), 1);
        assert_eq!(faults("serde, dev tokio"), 0);
    }

    #[test]
    fn type_parameters_are_refused_on_traits_of_contracts() {
        for (text, expected) in [
            ("pub trait Worker: Send + Sync {", 0),
            ("pub trait Worker<'a> {", 0),
            ("pub trait Queue<T> {", 1),
            ("pub trait Queue<'a, T: Send>: Sync {", 1),
            ("    pub trait Queue<const N: usize> {", 1),
            ("// pub trait Queue<T> {", 0),
            ("pub struct Secret<T>(T);", 0),
        ] {
            let inside = Tree::of(&[("crates/plba-contracts/src/worker.rs", text)]);
            assert_eq!(no_type_parameters(&inside).len(), expected, "{text}");
            let outside = Tree::of(&[("crates/plba-tasks/src/queue.rs", text)]);
            assert_eq!(no_type_parameters(&outside), [], "{text}");
        }
    }
}
