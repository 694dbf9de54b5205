//! The comparison as a table for a terminal.

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, TableComponent, presets,
};

use super::statistics::Verdict;
use super::summary::{CellResult, CellSummary, Summary};
use super::text;

/// Columns of a table that goes to a file or a pipe.
const FILE_WIDTH: u16 = 130;

/// Two tables (rates, times), the headline, what was in force, and what to beware of.
pub fn render(summary: &Summary) -> String {
    let mut parts = Vec::new();
    for (rates, column) in
        [(true, "share of native\nhigher is better"), (false, "x native's time\nlower is better")]
    {
        let cells: Vec<&CellSummary> =
            summary.cells.iter().filter(|cell| cell.unit.is_rate() == rates).collect();
        if !cells.is_empty() {
            parts.push(format!("{}\n", table(&cells, column)));
        }
    }
    parts.extend(text::headline(summary));
    parts.push(format!("In force: {}.", text::in_force_at_end(summary)));
    parts.extend(text::flags(summary).into_iter().map(|flag| format!("Beware: {flag}.")));
    parts.join("\n")
}

fn table(cells: &[&CellSummary], ratio: &str) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for line in [TableComponent::HeaderLines, TableComponent::MiddleHeaderIntersections] {
        table.set_style(line, '─');
    }
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if !table.is_tty() {
        table.set_width(FILE_WIDTH);
    }
    let kind = if cells[0].unit.is_rate() { "fio, data" } else { "metadata, 1 thread" };
    table.set_header([
        kind,
        "native",
        "fusewire",
        &format!("{ratio}\n[95 % interval]"),
        "native\nagainst\nitself",
        "verdict",
        "FUSE requests\nper operation",
    ]);
    for cell in cells {
        table.add_row(row(cell));
    }
    for index in 1..=4 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn row(cell: &CellSummary) -> Vec<Cell> {
    let title = Cell::new(&cell.cell.title);
    match &cell.result {
        CellResult::Failed(reason) => {
            let failed = Cell::new(format!("failed: {reason}")).fg(Color::Red);
            vec![title, Cell::new("-"), Cell::new("-"), failed]
        }
        CellResult::Compared(comparison) => {
            let verdict = Cell::new(text::verdict(comparison.verdict));
            let verdict = match comparison.verdict {
                Verdict::Same | Verdict::Unclear => verdict,
                Verdict::Faster => verdict.fg(Color::Green),
                Verdict::Slower | Verdict::Saturated => verdict.fg(Color::Yellow),
            };
            vec![
                title,
                Cell::new(text::figure(comparison.native, cell.unit)),
                Cell::new(text::figure(comparison.fusewire, cell.unit)),
                Cell::new(text::ratio(comparison.ratio, cell.unit)).add_attribute(Attribute::Bold),
                Cell::new(text::band(comparison.noise_band)),
                verdict,
                Cell::new(text::requests(comparison)),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn each_cell_has_its_row_and_failures_their_reason() {
        let text = render(&fixture::summary());
        let row = |start: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(start));
            line.unwrap_or_else(|| panic!("no row {start} in\n{text}")).to_owned()
        };
        let read = row("seq read 1M, buffered");
        for part in ["1,010 MB/s", "808 MB/s", "0.80 [0.80, 0.80]", "± 0.0 %", "slower"] {
            assert!(read.contains(part), "{part} in {read}");
        }
        let open = row("open + close");
        for part in ["4.00 µs", "40.0 µs", "x10.0 [10.0, 10.0]", "2.00: OPEN 1.00, RELEASE 1.00"]
        {
            assert!(open.contains(part), "{part} in {open}");
        }
        assert!(row("unlink").contains("failed: fusewire: Unlink failed"));
        assert!(row("In force:").contains("data passthrough; transport dev"));
    }
}
