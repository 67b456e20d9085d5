//! The C library as its users have it: a release folder is made, and C programs written against the
//! header alone are compiled with it, statically and dynamically, and run.
//!
//! Needs a C compiler and binutils; what is not there is skipped visibly.
#![cfg(unix)]

#[path = "capi/bare.rs"]
mod bare;
mod common;
#[path = "capi/gpu.rs"]
mod gpu;

use common::own;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const WARNINGS: &[&str] = &["-Wall", "-Wextra", "-Werror", "-pedantic"];

/// Whether a program is there; a visible line if not.
fn there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        println!("skipped: {program} is absent");
    }
    found
}

/// The C and C++ compilers that are there.
fn compilers() -> Vec<(&'static str, &'static str)> {
    let all = [("gcc", "g++"), ("clang", "clang++")];
    all.into_iter().filter(|(c, cpp)| there(c) && there(cpp)).collect()
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// Runs a command that must succeed; its standard output.
fn succeed(command: &mut Command) -> String {
    let output = run(command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// The release folder, made once; `None` without the tools to make it.
fn release() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = || {
        if !["gcc", "ld", "objcopy", "nm", "bash"].into_iter().all(there) {
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("attar-c");
        println!("{}", succeed(Command::new(own("scripts/dist")).arg(&folder)));
        Some(folder)
    };
    FOLDER.get_or_init(make).as_deref()
}

/// How a program gets the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Linked {
    Static,
    Shared,
}

/// Compiles a program against the release folder.
fn compile(
    release: &Path,
    compiler: &str,
    source: &str,
    linked: Linked,
    flags: &[&str],
) -> PathBuf {
    let name = source.replace(['/', '.'], "-");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{name}-{compiler}-{linked:?}{}", flags.concat()));
    let standard = match (source.ends_with("pp"), source.starts_with("examples")) {
        (true, _) => "-std=c++11",
        (false, true) => "-std=gnu11", // examples use what POSIX has
        (false, false) => "-std=c99",
    };
    let mut command = Command::new(compiler);
    command.args(WARNINGS).args([standard, "-O1", "-g", "-pthread"]).args(flags);
    command.arg("-I").arg(release.join("include")).arg("-o").arg(&program).arg(own(source));
    match linked {
        Linked::Static => command.arg(release.join("lib/libattar.a")),
        Linked::Shared => {
            let lib = release.join("lib");
            command.arg(format!("-Wl,-rpath,{}", lib.display())).arg("-L").arg(lib).arg("-lattar")
        }
    };
    succeed(command.arg("-lm"));
    program
}

fn models() -> [PathBuf; 2] {
    [own("tests/golden/llama.gguf"), own("models/attar-1m.gguf")]
}

#[test]
fn the_header_is_c99_and_cpp11_and_needs_no_operating_system() {
    let header = own("include/attar.h");
    let freestanding = ["-ffreestanding", "-fsyntax-only", "-Wpadded"];
    for (c, cpp) in compilers() {
        for width in ["-m64", "-m32"] {
            for (compiler, standard, language) in [(c, "-std=c99", "c"), (cpp, "-std=c++11", "c++")]
            {
                let mut command = Command::new(compiler);
                command.args(WARNINGS).args(freestanding).args([width, standard, "-x", language]);
                if language == "c" || width == "-m64" {
                    succeed(command.arg(&header)); // 32-bit C++ has no headers here
                }
            }
            let include = own("include");
            let mut layout = Command::new(c);
            layout.args(WARNINGS).args(["-std=c99", "-ffreestanding", "-fsyntax-only", width]);
            succeed(layout.arg("-I").arg(include).arg(own("tests/c/layout.c")));
        }
    }
}

/// Every test, on the static and on the shared library.
fn suite(name: &str) {
    suite_over(name, &[&models()]);
}

/// The same, with each of some lists of models.
fn suite_over(name: &str, lists: &[&[PathBuf]]) {
    let Some(release) = release() else { return };
    for linked in [Linked::Static, Linked::Shared] {
        let program = compile(release, "gcc", &format!("tests/c/{name}.c"), linked, &[]);
        for list in lists {
            println!("{linked:?} {list:?}\n{}", succeed(Command::new(&program).args(*list)));
        }
    }
}

#[test]
fn the_contract_holds() {
    suite("contract");
}

#[test]
fn misuse_gives_a_status() {
    suite("misuse");
}

#[test]
fn tokens_and_logits_are_those_of_every_machine() {
    let Some(release) = release() else { return };
    let program = compile(release, "gcc", "tests/c/tokens.c", Linked::Static, &[]);
    let model = own("models/attar-1m.gguf");
    let tokens = own("models/attar-1m.tokens");
    println!("{}", succeed(Command::new(program).arg(model).arg(tokens)));
}

#[test]
fn failing_reads_give_a_status() {
    suite("reads");
}

#[test]
fn plans_are_exact_and_smaller_arenas_give_a_status() {
    let goldens = std::fs::read_dir(own("tests/golden")).expect("checkpoints");
    let all: Vec<[PathBuf; 1]> = goldens
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|e| e == "gguf"))
        .chain([own("models/attar-1m.gguf")])
        .chain(common::shared("models/stories3M-f32.gguf"))
        .map(|path| [path])
        .collect();
    assert!(all.len() > 10);
    suite_over("arenas", &all.iter().map(|list| &list[..]).collect::<Vec<_>>());
}

#[test]
fn nothing_that_runs_allocates_and_failing_allocations_give_a_status() {
    suite("heap");
}

#[test]
fn sessions_share_a_model_and_threads_may_be_lent() {
    suite("threads");
}

#[test]
fn after_a_cancellation_no_more_than_a_layer_is_done() {
    suite("cancel");
}

#[test]
fn saved_states_go_on_and_damage_is_found() {
    suite("state");
}

/// Global symbols that a library defines.
fn symbols(library: &Path, dynamic: &[&str]) -> Vec<String> {
    let listing =
        succeed(Command::new("nm").args(dynamic).args(["-g", "--defined-only"]).arg(library));
    let names = listing.lines().filter_map(|line| line.split_whitespace().nth(2));
    names.map(String::from).collect()
}

#[test]
fn libraries_define_the_functions_of_the_header_and_nothing_else() {
    let Some(release) = release() else { return };
    let header = std::fs::read_to_string(own("include/attar.h")).expect("the header");
    let mut declared: Vec<&str> = header
        .split("ATTAR_API ")
        .skip(1)
        .filter_map(|after| after.split('(').next()?.split([' ', '*']).next_back())
        .filter(|name| name.starts_with("attar_"))
        .collect();
    declared.sort_unstable();
    assert_eq!(declared.len(), 29);
    for (library, dynamic) in [("libattar.a", &[][..]), ("libattar.so", &["-D"][..])] {
        let mut defined = symbols(&release.join("lib").join(library), dynamic);
        defined.sort_unstable();
        assert_eq!(defined, declared, "{library}");
    }
    let dynamic = succeed(Command::new("readelf").arg("-d").arg(release.join("lib/libattar.so")));
    assert!(dynamic.contains("Library soname: [libattar.so.1]"), "{dynamic}");
}

#[test]
fn two_copies_of_the_static_library_link_into_one_program() {
    let Some(release) = release() else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (library, copy) = (release.join("lib/libattar.a"), folder.join("libother.a"));
    let mut rename = Command::new("objcopy");
    for name in symbols(&library, &[]) {
        rename.arg(format!("--redefine-sym={name}=other_{name}"));
    }
    succeed(rename.arg(&library).arg(&copy));
    let (source, program) = (folder.join("two.c"), folder.join("two"));
    let text = "#include <attar.h>\n\
        extern uint32_t other_attar_abi_version(void);\n\
        extern attar_status other_attar_prefill(attar_session *, const attar_token *, size_t, size_t *);\n\
        int main(void) { return attar_abi_version() == other_attar_abi_version()\n\
          && attar_prefill(0, 0, 0, 0) == other_attar_prefill(0, 0, 0, 0) ? 0 : 1; }\n";
    std::fs::write(&source, text).expect("a folder for tests");
    let mut link = Command::new("gcc");
    link.arg("-I").arg(release.join("include")).arg("-o").arg(&program).arg(&source);
    succeed(link.args([&library, &copy]).arg("-lm"));
    succeed(&mut Command::new(program));
}

/// Sizes and old programs are those of one kind of machine.
fn on_x86_64_linux() -> bool {
    let here = cfg!(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"));
    if !here {
        println!("skipped: not x86-64 Linux");
    }
    here
}

#[test]
fn no_size_has_grown_by_more_than_5_percent() {
    let Some(release) = release().filter(|_| on_x86_64_linux()) else { return };
    let sizes = std::fs::File::open(release.join("sizes.txt")).expect("scripts/dist makes it");
    println!("{}", succeed(Command::new(own("scripts/sizes")).stdin(sizes)));
}

#[test]
fn programs_of_earlier_releases_run_with_this_library() {
    let Some(release) = release().filter(|_| on_x86_64_linux()) else { return };
    let kept = std::fs::read_dir(own("tests/abi")).expect("kept programs");
    for folder in kept.map(|entry| entry.expect("a readable folder").path()) {
        let mut old = Command::new(folder.join("contract"));
        old.env("LD_LIBRARY_PATH", release.join("lib")).args(models());
        println!("{}: {}", folder.display(), succeed(&mut old));
    }
}

/// What a run of `tests/c/quiet.c` asks of the system within `attar_generate`, by strace.
fn asked_while_generating(program: &Path, arguments: &[&str]) -> Vec<String> {
    let trace = program.with_extension("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o"]).arg(&trace).arg(program).arg(own("models/attar-1m.gguf"));
    succeed(strace.args(arguments));
    let text = std::fs::read_to_string(trace).expect("what strace wrote");
    let after = text.split_once("close(-77)").expect("the mark before").1;
    let within = after.split_once("close(-78)").expect("the mark after").0;
    let mut lines: Vec<String> = within.lines().skip(1).map(String::from).collect();
    lines.pop(); // the beginning of the second mark's line
    lines
}

#[test]
fn generating_asks_the_system_for_nothing() {
    let Some(release) = release().filter(|_| there("strace")) else { return };
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success())
    {
        return println!("skipped: strace may not trace here");
    }
    for linked in [Linked::Static, Linked::Shared] {
        let program = compile(release, "gcc", "tests/c/quiet.c", linked, &[]);
        assert_eq!(asked_while_generating(&program, &[]), [""; 0]);
        // A deadline only reads the clock, which the system lends to the program; a pause is a sleep.
        assert_eq!(asked_while_generating(&program, &["late"]), [""; 0]);
        let calm = asked_while_generating(&program, &["calm"]);
        let sleeps = calm.iter().all(|line| line.contains("clock_nanosleep("));
        assert!(calm.len() >= 32 && sleeps, "{calm:#?}");
        // It would be seen: this time the callback prints.
        let loud = asked_while_generating(&program, &["loud"]);
        assert!(loud.len() == 32 && loud.iter().all(|line| line.contains("write(2")), "{loud:#?}");
    }
}

const EXAMPLES: [&str; 7] = [
    "examples/c/generate.c",
    "examples/c/score.c",
    "examples/c/embed.c",
    "examples/c/load_from_memory.c",
    "examples/c/cancel.c",
    "examples/c/state.c",
    "examples/cpp/generate.cpp",
];

#[test]
fn examples_do_what_they_say() {
    let Some(release) = release() else { return };
    for (c, cpp) in compilers() {
        let said = EXAMPLES.map(|source| {
            let compiler = if source.ends_with("pp") { cpp } else { c };
            let program = compile(release, compiler, source, Linked::Static, &[]);
            let said = succeed(Command::new(program).arg(own("models/attar-1m.gguf")));
            println!("{source}:\n{said}");
            said
        });
        let [generate, score, embed, memory, cancel, state, parallel] = &said;
        assert!(generate.starts_with("Once upon a time") && generate.contains(" tokens, ln P = -"));
        let number = |line: &str| line.split_whitespace().next().and_then(|n| n.parse().ok());
        let numbers = |text: &str| text.lines().filter_map(number).collect::<Vec<f64>>();
        let scores = numbers(score);
        assert!(
            scores.len() == 2 && scores[0] > scores[1] + 1.0,
            "a time is likelier than a table"
        );
        assert!(numbers(embed)[0] > numbers(embed)[1], "cats on mats are nearer than bread");
        let bytes = own("models/attar-1m.gguf").metadata().expect("the model").len();
        assert!(memory.starts_with(&format!("in place {bytes} bytes")), "{memory}");
        assert_eq!(cancel, "stopped by the deadline\nstopped by the button\n");
        let lines: Vec<&str> = state.lines().collect();
        assert!(lines.len() == 2 && lines[0] == lines[1] && lines[0].len() > 40);
        // Threads change nothing.
        assert_eq!(parallel.lines().next(), generate.lines().next());
    }
}

/// What is run under tools that look for errors: everything but what counts time or the heap itself.
const CHECKED: [&str; 3] = ["tests/c/contract.c", "tests/c/reads.c", "tests/c/state.c"];

#[test]
fn valgrind_finds_no_error_and_no_leak() {
    let Some(release) = release().filter(|_| there("valgrind")) else { return };
    for source in CHECKED.iter().chain(&EXAMPLES[..4]).chain(&EXAMPLES[5..]) {
        let compiler = if source.ends_with("pp") { "g++" } else { "gcc" };
        let program = compile(release, compiler, source, Linked::Static, &[]);
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["-q", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=all"]);
        valgrind.arg("--errors-for-leak-kinds=all").arg(program);
        let models = models();
        succeed(valgrind.args(if source.starts_with("tests") {
            &models[..]
        } else {
            &models[1..]
        }));
    }
}

#[test]
fn address_sanitizer_finds_no_error_and_no_leak() {
    let Some(release) = release() else { return };
    for (c, cpp) in compilers() {
        for source in CHECKED.iter().chain(&EXAMPLES) {
            let compiler = if source.ends_with("pp") { cpp } else { c };
            let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
            let program = compile(release, compiler, source, Linked::Static, &flags);
            let models = models();
            let models = if source.starts_with("tests") { &models[..] } else { &models[1..] };
            succeed(Command::new(program).args(models));
        }
    }
}

#[test]
fn build_systems_find_the_library() {
    let Some(release) = release() else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    if there("pkg-config") {
        let mut ask = Command::new("pkg-config");
        ask.env("PKG_CONFIG_PATH", release.join("lib/pkgconfig"));
        let flags = succeed(ask.args(["--cflags", "--libs", "attar"]));
        let mut link = Command::new("gcc");
        link.arg("-o")
            .arg(folder.join("found"))
            .arg(own("tests/c/layout.c"))
            .args(flags.split_whitespace());
        succeed(link.arg(format!("-Wl,-rpath,{}", release.join("lib").display())));
        succeed(&mut Command::new(folder.join("found")));
    }
    if there("cmake") {
        let project = folder.join("cmake");
        let build = project.join("build");
        let _ = std::fs::remove_dir_all(&project); // it may not be there
        std::fs::create_dir_all(&project).expect("a folder for tests");
        let text = format!(
            "cmake_minimum_required(VERSION 3.10)\nproject(found C)\nfind_package(attar 0.1 REQUIRED)\n\
             foreach(kind attar static)\nadd_executable(with_${{kind}} {})\n\
             target_link_libraries(with_${{kind}} attar::${{kind}})\nendforeach()\n",
            own("tests/c/layout.c").display()
        );
        std::fs::write(project.join("CMakeLists.txt"), text).expect("a folder for tests");
        let prefix = format!("-DCMAKE_PREFIX_PATH={}", release.display());
        succeed(Command::new("cmake").arg("-S").arg(&project).arg("-B").arg(&build).arg(prefix));
        succeed(Command::new("cmake").arg("--build").arg(&build));
        succeed(&mut Command::new(build.join("with_static")));
        succeed(&mut Command::new(build.join("with_attar")));
    }
}
