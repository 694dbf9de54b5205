//! The table for a terminal: operations by profiles.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableComponent, presets};

use super::{Cost, Document};

/// Renders `document`.
pub(super) fn render(document: &Document) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for line in [TableComponent::HeaderLines, TableComponent::MiddleHeaderIntersections] {
        table.set_style(line, '─');
    }
    table.set_content_arrangement(ContentArrangement::Disabled);
    let Some(first) = document.profiles.first() else { return String::new() };
    let names = document.profiles.iter().map(|profile| profile.name.replace(", ", "\n"));
    let requests = format!("requests of: {}", first.name);
    table.set_header(["operation".to_owned()].into_iter().chain(names).chain([requests]));
    for cost in &first.operations {
        let mut cells = vec![Cell::new(&cost.operation)];
        let figures = document.profiles.iter().map(|profile| {
            let same = |other: &&Cost| other.operation == cost.operation;
            profile.operations.iter().find(same).map_or("-".to_owned(), figure)
        });
        cells.extend(figures.map(|text| Cell::new(text).set_alignment(CellAlignment::Right)));
        cells.push(Cell::new(names_of(cost)));
        table.add_row(cells);
    }
    format!("{table}\n\nn + m: n requests that are waited for, and m that nobody waits for.")
}

fn figure(cost: &Cost) -> String {
    let part = |count| each(cost, count);
    match (cost.blocking(), cost.asynchronous()) {
        (blocking, 0) => part(blocking),
        (blocking, asynchronous) => format!("{} + {}", part(blocking), part(asynchronous)),
    }
}

/// A share of all, for each time.
fn each(cost: &Cost, count: u64) -> String {
    match cost.times {
        1 => count.to_string(),
        times => format!("{:.2}", count as f64 / f64::from(times)),
    }
}

fn names_of(cost: &Cost) -> String {
    let name = |(opcode, count): (&String, &u64)| match (cost.times, *count) {
        (1, 1) => opcode.clone(),
        (1, count) => format!("{count} {opcode}"),
        (_, count) => format!("{} {opcode}", each(cost, count)),
    };
    cost.requests.iter().map(name).collect::<Vec<_>>().join(", ")
}
