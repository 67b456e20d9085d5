//! Standard output that may be a closed pipe, progress on a terminal, and Ctrl-C.

use attar::memory::Shared;
use attar::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit status after Ctrl-C, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Writes to standard output at once. A reader that has gone away, as in `attar ... | head`, ends the
/// program without a complaint.
pub(crate) fn print(text: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(|e| Error::io("write to standard output", e)),
    }
}

/// The bytes of `-` (standard input) or of a file.
pub(crate) fn read_input(path: &std::path::Path) -> Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes)
            .map_err(|e| Error::io("read standard input", e))?;
        return Ok(bytes);
    }
    std::fs::read(path).map_err(|e| Error::io(&format!("read {}", path.display()), e))
}

/// [`print`], with the end of the line.
pub(crate) fn print_line(text: &str) -> Result<()> {
    print(format!("{text}\n").as_bytes())
}

/// Prints a value on one line.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<()> {
    print_line(&value.to_string())
}

/// A bar of `len` steps on standard error, invisible unless that is a terminal.
pub(crate) fn progress(len: u64, what: &'static str) -> ProgressBar {
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {eta}");
    let bar = ProgressBar::with_draw_target(Some(len), target).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar, // the plain bar will do
    }
}

/// A flag that Ctrl-C sets.
pub(crate) fn interrupted() -> Result<Shared<AtomicBool>> {
    let flag = Shared::new(AtomicBool::new(false))?;
    cancel_on_interrupt(flag.clone())?;
    Ok(flag)
}

/// Makes Ctrl-C set `flag`; a second one ends the program.
pub(crate) fn cancel_on_interrupt(flag: Shared<AtomicBool>) -> Result<()> {
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
    };
    ctrlc::set_handler(handler)
        .map_err(|e| Error::Io(format!("cannot watch for Ctrl-C: {e}").into()))
}
