//! Tables of at most 80 columns, whose first column can always be copied into the next command.
//!
//! The first cell of a row is its key and is never shortened: where a key is longer than its column, the row goes on
//! below it. Columns marked [`Fit::Shrink`] give way with `…` first.

use crate::text::{Paint, Tone, cut, visible};

/// No line is longer.
pub(crate) const WIDTH: usize = 80;
const GAP: usize = 2;
/// What a key column keeps when the others need the room.
const KEY_LEAST: usize = 12;

/// What a column does when the table is too wide.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    Whole,
    /// Down to this many characters.
    Shrink(usize),
}

/// The side that cells stand on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

struct Column {
    header: &'static str,
    fit: Fit,
    side: Side,
}

/// Rows under headers.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Row>,
}

struct Row {
    cells: Vec<String>,
    /// Lines below it, for what no column holds.
    notes: Vec<String>,
}

impl Table {
    /// The key's column.
    pub(crate) fn keyed(header: &'static str) -> Self {
        Self { columns: vec![Column { header, fit: Fit::Whole, side: Side::Left }], rows: Vec::new() }
    }

    /// One more column to the right.
    pub(crate) fn column(mut self, header: &'static str, side: Side, fit: Fit) -> Self {
        self.columns.push(Column { header, fit, side });
        self
    }

    /// One more row, as many cells as columns; a missing one is empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().map(|cell| visible(&cell).into_owned()).collect();
        cells.resize(self.columns.len(), String::new());
        self.rows.push(Row { cells, notes: Vec::new() });
    }

    /// A line below the last row.
    pub(crate) fn note(&mut self, note: &str) {
        if let Some(row) = self.rows.last_mut() {
            row.notes.push(visible(note).into_owned());
        }
    }

    /// The whole table; words of stage, power and liveness in their colours where allowed.
    pub(crate) fn render(&self, paint: Paint) -> String {
        let widths = self.widths();
        let headers: Vec<String> = self.columns.iter().map(|column| column.header.to_owned()).collect();
        let mut text = self.line(&headers, &widths, Paint::Plain);
        for row in &self.rows {
            if length(&row.cells[0]) > widths[0] {
                text.push_str(&row.cells[0]);
                text.push('\n');
                let mut rest = row.cells.clone();
                rest[0] = String::new();
                text.push_str(&self.line(&rest, &widths, paint));
            } else {
                text.push_str(&self.line(&row.cells, &widths, paint));
            }
            for note in &row.notes {
                text.push_str(&format!("  {}\n", wrapped(&fitting(note), 2)));
            }
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let natural = |index: usize| {
            let cells = self.rows.iter().map(|row| length(&row.cells[index]));
            cells.chain([length(self.columns[index].header)]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..self.columns.len()).map(natural).collect();
        let room = WIDTH - GAP * (widths.len() - 1);
        // The widest gives way first, one character at a time: tables are small and this is easy to see through.
        while widths.iter().sum::<usize>() > room {
            let widest = (1..widths.len())
                .filter(|&at| matches!(self.columns[at].fit, Fit::Shrink(least) if widths[at] > least))
                .max_by_key(|&at| widths[at]);
            match widest {
                Some(at) => widths[at] -= 1,
                None if widths[0] > KEY_LEAST => widths[0] -= 1,
                None => break,
            }
        }
        widths
    }

    fn line(&self, cells: &[String], widths: &[usize], paint: Paint) -> String {
        let mut line = String::new();
        for (at, ((cell, &width), column)) in cells.iter().zip(widths).zip(&self.columns).enumerate() {
            if at > 0 {
                line.push_str("  ");
            }
            let shown = if at == 0 { cell.clone() } else { cut(cell, width) };
            let pad = " ".repeat(width.saturating_sub(length(&shown)));
            let painted = if at == 0 { shown } else { paint.tone(Tone::of(&shown), &shown) };
            match column.side {
                Side::Left => line.extend([painted, pad]),
                Side::Right => line.extend([pad, painted]),
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

/// `label  value` lines of a `show`, values in one column, broken at words where they are long: ids and digests stay whole.
pub(crate) fn fields<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let rows: Vec<_> = rows.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = rows.iter().map(|(label, _)| length(label)).max().unwrap_or(0);
    let line = |(label, value): &(&str, String)| {
        format!("{label:width$}  {}\n", wrapped(&visible(value), width + GAP))
    };
    rows.iter().map(line).collect()
}

/// Words that would not fit into a line of a table are cut.
fn fitting(note: &str) -> String {
    note.split(' ').map(|word| cut(word, WIDTH - 2)).collect::<Vec<_>>().join(" ")
}

/// Text in lines of 80 columns that begins at a column and goes on there; a word that is longer stays whole.
fn wrapped(text: &str, column: usize) -> String {
    let mut lines = String::new();
    let mut at = column;
    for (nth, word) in text.split(' ').enumerate() {
        if nth > 0 && at + 1 + length(word) > WIDTH {
            lines.push_str(&format!("\n{:column$}", ""));
            at = column;
        } else if nth > 0 {
            lines.push(' ');
            at += 1;
        }
        lines.push_str(word);
        at += length(word);
    }
    lines
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::keyed("NAME").column("STATE", Side::Left, Fit::Whole).column(
            "HOST",
            Side::Left,
            Fit::Shrink(8),
        )
    }

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let mut table = table();
        table.row(["web", "running", "hv1"].map(String::from));
        table.row(["database", "off", ""].map(String::from));
        table.note("waits for capacity");
        assert_eq!(
            table.render(Paint::Plain),
            "NAME      STATE    HOST\nweb       running  hv1\ndatabase  off\n  waits for capacity\n"
        );
    }

    #[test]
    fn a_long_key_stays_whole_and_every_line_fits() {
        let mut table = table();
        let key = "k".repeat(63);
        table.row([key.clone(), "shutting-down".into(), "h".repeat(200)]);
        table.row(["web".into(), "running".into(), "hv1".into()]);
        let text = table.render(Paint::Plain);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().any(|line| line.split_whitespace().next() == Some(key.as_str())), "{text}");
    }

    #[test]
    fn what_is_long_goes_on_in_the_next_line_and_an_id_stays_whole() {
        let (id, why) =
            ("d".repeat(90), "an earlier call is still at work and libvirt does not say when it is over");
        let shown = fields([("  waits for", why.to_owned()), ("  image", id.clone())]);
        assert_eq!(
            shown,
            format!(
                "  waits for  an earlier call is still at work and libvirt does not say when it\n\
                 {:13}is over\n  image      {id}\n",
                ""
            )
        );
        let mut table = table();
        table.row(["web", "running", "hv1"].map(String::from));
        table.note(&format!("waits for {why}, since 11s"));
        let text = table.render(Paint::Plain);
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH) && text.ends_with(", since 11s\n"),
            "{text}"
        );
    }

    #[test]
    fn colour_changes_no_width() {
        let mut table = table();
        table.row(["web", "running", "hv1"].map(String::from));
        let bare = table.render(Paint::Colour).replace("\u{1b}[32m", "").replace("\u{1b}[0m", "");
        assert_eq!(bare, table.render(Paint::Plain));
    }
}
