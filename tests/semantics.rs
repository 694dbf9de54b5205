//! What src/semantics.md tells users is what the tests hold: the differences are those of
//! tests/known-differences.toml, and every test that is named is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

const SEMANTICS: &str = include_str!("../src/semantics.md");

#[derive(Deserialize)]
struct Register {
    difference: Vec<Difference>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    id: String,
    rule: String,
    held_by: Vec<String>,
    native: Option<String>,
    mounted: Option<String>,
    only: Option<String>,
    #[serde(default)]
    suites: Vec<toml::Table>,
}

fn register() -> Vec<Difference> {
    let register: Result<Register, _> = toml::from_str(include_str!("known-differences.toml"));
    register.expect("tests/known-differences.toml is in order").difference
}

/// The cells of each row of the tables below `heading`, without what names the columns.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = SEMANTICS.split_once(heading).expect("the section is there");
    let section = section.split("\n# ").next().unwrap_or_default();
    let lines = section.lines().filter(|line| line.starts_with('|')).skip(2);
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The words between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_differences_are_those_of_the_register() {
    let rows = rows("# What differs\n");
    let told: BTreeMap<String, Vec<String>> = rows
        .iter()
        .map(|row| {
            assert_eq!(row.len(), 8, "each row has eight cells: {row:?}");
            let id = quoted(row[0]).pop().expect("the first cell is the id");
            (id, quoted(row[7]))
        })
        .collect();
    assert_eq!(told.len(), rows.len(), "no difference is told twice");
    let known = register();
    let held: BTreeMap<_, _> =
        known.iter().map(|known| (known.id.clone(), known.held_by.clone())).collect();
    assert_eq!(held.len(), known.len(), "no difference is listed twice");
    assert_eq!(
        told, held,
        "src/semantics.md on the left, tests/known-differences.toml on the right"
    );
}

#[test]
fn each_difference_says_why_and_what_to_expect() {
    for known in register() {
        let Difference { id, rule, native, mounted, only, .. } = &known;
        assert!(rule.trim().len() > 20, "{id} has a rule");
        assert_eq!(native.is_some(), mounted.is_some(), "{id} has both answers or none");
        assert!(native.is_none() || native != mounted, "{id} differs");
        assert!(only.is_none() || native.is_some(), "{id}: `only` is for answers");
        assert!(!known.held_by.is_empty(), "{id} is held by a test");
        for shows in &known.suites {
            let has = |key: &str| shows.get(key).is_some_and(toml::Value::is_str);
            assert!(has("suite") && has("test") && has("becomes"), "{id}: {shows}");
        }
    }
}

#[test]
fn every_test_that_is_named_is_there() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let rows = [rows("# What differs\n"), rows("# What is as native")].concat();
    assert!(rows.len() > 30, "both tables are found");
    for row in rows {
        let named = quoted(row.last().expect("a row has cells"));
        assert!(!named.is_empty(), "no test holds: {row:?}");
        for test in named {
            let parts: Vec<&str> = test.split("::").collect();
            let [target, file, name] = parts[..] else {
                panic!("{test} is not target::file::function");
            };
            let path = tests.join(target).join(file).with_extension("rs");
            let text = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{test}: {}: {error}", path.display()));
            // A function that no test list has is dead code, which the lints refuse.
            let there = [format!("fn {name}("), format!("\"{name}\"")];
            assert!(there.iter().any(|name| text.contains(name)), "there is no test {test}");
        }
    }
}
