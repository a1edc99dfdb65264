//! The figures of one run: by what was measured and of whom, printed as they come, and as a document.
//!
//! Pure but for the printing. Does not own: what is measured.

use std::fmt::Write as _;

/// Who a figure is of: the columns, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    Machine,
    Standalone,
    Apart,
    Kafka,
    NisshiMemory,
    NisshiSqlite,
}

impl Column {
    const ALL: [Self; 6] = [
        Self::Machine,
        Self::Standalone,
        Self::Apart,
        Self::Kafka,
        Self::NisshiMemory,
        Self::NisshiSqlite,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Standalone => "standalone",
            Self::Apart => "apart, R = 1",
            Self::Kafka => "Kafka 4.3.0",
            Self::NisshiMemory => "Nisshi 0.8.1, memory",
            Self::NisshiSqlite => "Nisshi 0.8.1, sqlite",
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
struct Row {
    name: String,
    unit: &'static str,
    aim: String,
    values: Vec<(Column, f64)>,
}

#[derive(Clone, Debug, Default)]
pub struct Figures {
    rows: Vec<Row>,
}

impl Figures {
    pub fn add(&mut self, name: &str, column: Column, value: f64, unit: &'static str) {
        println!("{name:<56} {:<14} {value:>12.3} {unit}", column.title());
        match self.rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row.values.push((column, value)),
            None => self.rows.push(Row {
                name: name.to_owned(),
                unit,
                aim: String::new(),
                values: vec![(column, value)],
            }),
        }
    }

    /// What a figure should be.
    pub fn aim(&mut self, name: &str, aim: &str) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.name == name) {
            aim.clone_into(&mut row.aim);
        }
    }

    pub fn get(&self, name: &str, column: Column) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.name == name)?;
        row.values.iter().find(|(of, _)| *of == column).map(|(_, value)| *value)
    }

    /// A Markdown table of the columns that have anything.
    pub fn table(&self) -> String {
        let has_any = |column: &Column| {
            self.rows
                .iter()
                .any(|row| row.values.iter().any(|(of, _)| of == column))
        };
        let columns: Vec<Column> = Column::ALL.into_iter().filter(has_any).collect();
        let mut text = String::from("| figure |");
        for column in &columns {
            let _ = write!(text, " {} |", column.title());
        }
        text.push_str(" aim |\n|---|");
        text.push_str(&"---:|".repeat(columns.len()));
        text.push_str("---|\n");
        for row in &self.rows {
            let _ = write!(text, "| {}, {} |", row.name, row.unit);
            for column in &columns {
                let value = row.values.iter().find(|(of, _)| of == column);
                let shown = value.map_or_else(String::new, |(_, value)| short(*value));
                let _ = write!(text, " {shown} |");
            }
            let _ = writeln!(text, " {} |", row.aim);
        }
        text
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A value a line.
    pub fn json(&self) -> Vec<serde_json::Value> {
        let rows = self.rows.iter().map(|row| {
            let values = row
                .values
                .iter()
                .map(|(column, value)| (column.title().to_owned(), (*value).into()));
            let values: serde_json::Map<String, serde_json::Value> = values.collect();
            serde_json::json!({ "name": row.name, "unit": row.unit, "aim": row.aim, "values": values })
        });
        rows.collect()
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `document` with everything between its two markers replaced.
///
/// # Errors
/// If it doesn't have them.
pub fn replace_between(document: &str, begin: &str, end: &str, text: &str) -> anyhow::Result<String> {
    let (before, rest) = document
        .split_once(begin)
        .ok_or_else(|| anyhow::anyhow!("the document lacks {begin}"))?;
    let (_, after) = rest
        .split_once(end)
        .ok_or_else(|| anyhow::anyhow!("the document lacks {end}"))?;
    Ok(format!("{before}{begin}\n{text}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns that have nothing are left out, and figures of one name are one line.
    #[test]
    fn a_table_has_the_columns_that_were_measured() {
        let mut figures = Figures::default();
        figures.add("ready", Column::Kafka, 1800.0, "ms");
        figures.add("ready", Column::Standalone, 42.123, "ms");
        figures.aim("ready", "≤ 200");
        let expected =
            "| figure | standalone | Kafka 4.3.0 | aim |\n|---|---:|---:|---|\n| ready, ms | 42.1 | 1800 | ≤ 200 |\n";
        assert_eq!(figures.table(), expected);
    }

    /// Only what stands between the markers changes.
    #[test]
    fn a_document_keeps_its_own_words() {
        let replaced = replace_between("a <b>old<e> c", "<b>", "<e>", "new\n").unwrap();
        assert_eq!(replaced, "a <b>\nnew\n<e> c");
        assert!(replace_between("a", "<b>", "<e>", "").is_err());
    }
}
