//! Packs what tokenizers ask of Unicode's tables, which serve every use and are four times as large.

use std::fmt::Write;
use unicode_normalization::char::decompose_canonical;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// The name of a `Class`, white space apart.
fn class(c: char) -> &'static str {
    match c.general_category_group() {
        GeneralCategoryGroup::Letter => "Letter",
        GeneralCategoryGroup::Mark => "Mark",
        GeneralCategoryGroup::Number => "Number",
        GeneralCategoryGroup::Punctuation => "Punctuation",
        GeneralCategoryGroup::Symbol => "Symbol",
        GeneralCategoryGroup::Separator | GeneralCategoryGroup::Other => "Other",
    }
}

/// A character bared of accents and lowered.
fn folded(c: char) -> Vec<char> {
    let mut parts = Vec::new();
    decompose_canonical(c, |part| parts.push(part));
    parts.into_iter().filter(|part| class(*part) != "Mark").flat_map(char::to_lowercase).collect()
}

/// A character as the tables have it.
fn code(c: char) -> [u8; 3] {
    let [_, plane, row, cell] = u32::from(c).to_be_bytes();
    [plane, row, cell]
}

/// One table: its name, the type of what a character has, and rows.
fn write_table(out: &mut String, name: &str, of: &str, rows: &[(char, String)]) {
    let len = rows.len();
    write!(out, "static {name}: [(Code, {of}); {len}] = [").expect("a string grows");
    for (c, value) in rows {
        write!(out, "({:?}, {value}),", code(*c)).expect("a string grows");
    }
    out.push_str("];\n");
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let all = || char::MIN..=char::MAX;
    let mut runs: Vec<(char, String)> =
        all().map(|c| (c, format!("Class::{}", class(c)))).collect();
    runs.dedup_by(|next, run| next.1 == run.1);
    let is_syllable = |c: &char| ('\u{ac00}'..='\u{d7a3}').contains(c); // taken apart by a formula
    let changed = all().filter(|c| !is_syllable(c)).flat_map(|c| {
        let parts = folded(c);
        let parts = if parts == [c] { Vec::new() } else { parts };
        parts.into_iter().map(move |part| (c, format!("{:?}", code(part))))
    });
    let mut out = String::new();
    write_table(&mut out, "RUNS", "Class", &runs);
    write_table(&mut out, "FOLDED", "Code", &changed.collect::<Vec<_>>());
    let folder = std::env::var("OUT_DIR").expect("cargo names a folder");
    std::fs::write(format!("{folder}/unicode.rs"), out).expect("a folder to write into");
}
