//! How what is wrong is mended, in the language of the listener where that is known.

use crate::check::command::Program;
use crate::check::steps::Step;

/// For output that is held back.
pub(super) fn flush(program: &Program) -> String {
    match program {
        Program::Python => "Flush after each line: print(line, flush=True), or start it with python3 -u. (The \
             options -E and -I, and a PYTHONUNBUFFERED that is set but empty, keep wsgw from doing that \
             for you. A file object of your own, such as os.fdopen(1, \"w\"), needs its own flush().)"
            .to_owned(),
        Program::Node => "Write each line with fs.writeSync(1, line + \"\\n\"), or with process.stdout.write, as soon as \
             its event is handled; do not collect lines until stdin ends."
            .to_owned(),
        Program::Jq => "Start it with jq --unbuffered -c. Any other program behind it in a pipe must not hold \
             its output back either."
            .to_owned(),
        Program::Awk => "Call fflush() after each print: { print; fflush() }.".to_owned(),
        Program::Mawk => "This awk is mawk, which reads and writes in blocks: start it with mawk -W interactive, \
             or use gawk with fflush() after each print."
            .to_owned(),
        Program::Sed => "Start it with sed -u.".to_owned(),
        Program::Grep => "Start it with grep --line-buffered.".to_owned(),
        Program::Perl => "Put $| = 1; at the start of the program.".to_owned(),
        Program::Ruby => "Put $stdout.sync = true at the start of the program.".to_owned(),
        Program::Php => "Call flush() after each line.".to_owned(),
        Program::Shell => "Answer each line inside of the loop that reads it (while IFS= read -r line; do …; done), \
             and let no program in it hold its output back: jq --unbuffered, sed -u, grep \
             --line-buffered, stdbuf -oL for others."
            .to_owned(),
        Program::Other(name) => format!(
            "Flush stdout after each line. In C: setvbuf(stdout, NULL, _IOLBF, 0) at the start of main, or \
             fflush(stdout) after each line; in Java: System.out.flush(); in C++: std::endl. Where the \
             program cannot be changed, try stdbuf -oL {name}. A program that reads all of its stdin \
             before it writes has to answer each line instead."
        ),
    }
}

/// For text that was meant for people.
pub(super) fn to_stderr(program: &Program, answers_nothing: bool) -> String {
    let how = match program {
        Program::Python => "print(\"…\", file=sys.stderr); the module logging does that by itself",
        Program::Node => "console.error(\"…\") in place of console.log",
        Program::Jq => "debug or stderr in place of a plain text",
        Program::Awk | Program::Mawk => "print \"…\" > \"/dev/stderr\"",
        Program::Perl => "print STDERR \"…\\n\"",
        Program::Ruby => "warn \"…\"",
        Program::Php => "fwrite(STDERR, \"…\\n\")",
        Program::Shell => "echo … >&2",
        Program::Sed | Program::Grep | Program::Other(_) => {
            "fprintf(stderr, …) in C, eprintln! in Rust, System.err in Java, log in Go"
        }
    };
    let plain = " A program that is to read messages and write messages as plain lines, without JSON, is \
                 started with --plain.";
    let plain = if answers_nothing { plain } else { "" };
    format!(
        "On stdout a listener writes answers and commands alone, a JSON object on each line. Print what is \
         for people to stderr, which goes to the log: {how}.{plain}"
    )
}

/// For JSON that goes over several lines.
pub(super) fn one_line(program: &Program) -> String {
    let how = match program {
        Program::Python => "json.dumps(answer) without indent",
        Program::Node => "JSON.stringify(answer) without a third argument",
        Program::Jq | Program::Shell => "jq -c (with --unbuffered)",
        Program::Php => "json_encode without JSON_PRETTY_PRINT",
        Program::Ruby => "JSON.generate in place of JSON.pretty_generate",
        _ => "switch off pretty-printing",
    };
    format!("Write each answer on one line: {how}.")
}

/// For a line that is nearly JSON.
pub(super) fn valid_json(program: &Program) -> String {
    let how = match program {
        Program::Python => {
            "print(json.dumps(answer)) in place of print(answer), which writes a dictionary as Python \
             does; json.dumps(answer, allow_nan=False) shows where NaN comes from"
        }
        Program::Node => "console.log(JSON.stringify(answer)) in place of console.log(answer)",
        Program::Shell => {
            "jq -cn --argjson id \"$id\" --arg message \"$text\" '{$id, $message}', which escapes quotes and \
             backslashes in the text"
        }
        Program::Ruby => "puts JSON.generate(answer)",
        Program::Perl => "print encode_json($answer), \"\\n\" of the module JSON::PP",
        Program::Php => "echo json_encode($answer), \"\\n\"",
        _ => "a JSON library, which escapes quotes, backslashes and control characters in the text",
    };
    format!("Write the answer by {how}.")
}

/// For text that is not UTF-8.
pub(super) fn utf8(program: &Program) -> String {
    match program {
        Program::Python => "Set PYTHONUTF8=1, or call sys.stdin.reconfigure(encoding=\"utf-8\") and \
             sys.stdout.reconfigure(encoding=\"utf-8\") first. The names of encodings such as ascii or \
             latin-1 have no place in a listener."
            .to_owned(),
        Program::Perl => "Put use open qw(:std :encoding(UTF-8)); at the start of the program.".to_owned(),
        Program::Ruby => "Put Encoding.default_external = \"UTF-8\" at the start of the program.".to_owned(),
        Program::Node => "Call process.stdin.setEncoding(\"utf8\"), so that a character that is split between two \
             chunks stays whole."
            .to_owned(),
        Program::Awk | Program::Mawk | Program::Sed | Program::Grep | Program::Shell => {
            "Do not cut lines at bytes, and start it with a UTF-8 locale (LC_ALL=C.UTF-8).".to_owned()
        }
        _ => "Read and write UTF-8 whatever the locale says, and treat a line as bytes where the program \
             does not need its characters."
            .to_owned(),
    }
}

/// For an empty line behind each line.
pub(super) fn one_newline(program: &Program) -> String {
    let how = match program {
        Program::Python => {
            "print(line, end=\"\", flush=True), or line = line.rstrip(\"\\n\") before anything else"
        }
        Program::Perl => "chomp the line first",
        Program::Ruby => "puts adds none to a line that has one; print and $/ may",
        Program::Node => "console.log(line.trimEnd()), or readline, which takes the newline off",
        _ => "take it off when you read, or add none when you write",
    };
    format!("The line that was read ends with its newline already: {how}.")
}

/// For a loop that does not end with stdin.
pub(super) fn end_with_stdin(program: &Program) -> String {
    let how = match program {
        Program::Python => {
            "for line in sys.stdin: ends by itself; threads that go on must be daemon=True"
        }
        Program::Node => {
            "process.stdin.on(\"end\", () => process.exit()); open timers and sockets keep Node alive"
        }
        Program::Shell => {
            "while IFS= read -r line; do …; done ends by itself, while true; do read …; done does not"
        }
        Program::Ruby => "while line = $stdin.gets",
        Program::Perl => "while (<STDIN>)",
        _ => "leave the loop when reading returns the end of the file (0, NULL, EOF)",
    };
    format!("End the program when its stdin ends: {how}.")
}

/// For a program that ended in a step.
pub(super) fn survive(program: &Program, step: Step, well: bool, stderr: &str) -> String {
    if well && !stderr.contains("rror") {
        let how = match program {
            Program::Python => "for line in sys.stdin:",
            Program::Shell => "while IFS= read -r line; do …; done",
            Program::Node => "readline.createInterface({input: process.stdin}).on(\"line\", …)",
            _ => "read a line, answer it, and read the next one until stdin ends",
        };
        return format!(
            "A listener serves all clients for as long as the gateway runs: loop over the lines of stdin ({how}), and \
             do not exit after an event."
        );
    }
    let of_chunks = ["Extra data", "after JSON", "trailing characters"];
    let step = match of_chunks.iter().any(|part| stderr.contains(part)) {
        true => Step::Burst,
        false => step,
    };
    let of_step = match step {
        Step::Start => "See what its stderr says, and run the command by hand.",
        Step::Handshake => {
            "An onHandshake has path, query, remote, protocols and headers; any of them may be empty."
        }
        Step::Open | Step::Close => {
            "Handle, or skip, each event by its key event: onClientOpen and onClientClose have an empty message and \
             need no answer."
        }
        Step::Text => {
            "A client may send any text, JSON or not. Catch the error, write it to stderr, and answer with \
             {\"id\":…,\"connections\":[]}, which drops the message."
        }
        Step::Unicode => "",
        Step::Empty => {
            "A message may be empty: look at its length before its first character or word."
        }
        Step::Binary => {
            "A binary message has an empty message, and its bytes in the key base64. Where you do not want \
             any, answer with {\"id\":…,\"connections\":[]}."
        }
        Step::Push => {
            "A push (wsgw send) comes from no connection: its conn is null (None). Look at conn before you use \
             it."
        }
        Step::Burst => {
            "One read from stdin may bring several lines, or a part of one: split what comes at newlines, and \
             keep the rest for the next read (Node: readline; C: fgets)."
        }
        Step::EndOfStdin | Step::Sigterm => "",
    };
    if step == Step::Unicode { utf8(program) } else { of_step.to_owned() }
}

/// For answers that do not come.
pub(super) fn answer_each(id: u64) -> String {
    format!(
        "Write one line for each onMessage, with its id: {{\"id\":{id}}} sends the message on unchanged, \
         {{\"id\":{id},\"message\":\"…\"}} sends another text, {{\"id\":{id},\"connections\":[]}} sends it to \
         nobody. Also where you have nothing to say, and where an error was caught."
    )
}

/// For answers that take long.
pub(super) fn faster(program: &Program) -> String {
    let of_shell = "Start programs such as jq once for all lines, and not for each line. ";
    let first = if *program == Program::Shell || *program == Program::Jq { of_shell } else { "" };
    let rest = "Answer at once, and do slow work (databases, other servers, sleep) beside the loop: in threads, tasks or a queue. \
     Answers may come in any order. Push what is ready later with {\"command\":\"send\",…}.";
    format!("{first}{rest}")
}

/// For children that stay.
pub(super) fn end_children(program: &Program) -> String {
    let how = match program {
        Program::Shell => {
            "trap 'kill $(jobs -p) 2>/dev/null' EXIT at the start of the script; or exec the last command"
        }
        Program::Python => "process.terminate() and process.wait() in a finally: block",
        Program::Node => "child.kill() in process.on(\"exit\", …)",
        _ => "send them SIGTERM and wait for them",
    };
    format!("End what it has started before it exits itself: {how}.")
}

/// For SIGTERM that changes nothing.
pub(super) fn heed_sigterm(program: &Program) -> String {
    let how = match program {
        Program::Python => {
            "in its handler, call sys.exit(), or leave the signal as it is (SIG_DFL)"
        }
        Program::Shell => "remove trap '' TERM, or let the trap exit",
        Program::Node => "process.on(\"SIGTERM\", () => process.exit())",
        _ => "leave the signal as it is, or exit in its handler",
    };
    format!("Exit at SIGTERM within 2 s: {how}.")
}

/// How an answer with this fault is mended.
pub(super) fn of_answer(why: &str, line: &str) -> String {
    let key = ["connections", "except"].into_iter().find(|key| why.contains(&format!("\"{key}\"")));
    if let Some(key) = key {
        return format!(
            "Write {key} as a list of names, also for a single one: \"{key}\":[\"k1\"]. Leave the key out to \
             send to all (or whom route names); [] is nobody. null is not a list."
        );
    }
    if why.contains("base64") {
        return "Write base64 in the standard alphabet (A-Z a-z 0-9 + /) with its = at the end, as a string; or leave the key \
                out and write a message."
            .to_owned();
    }
    if why.contains("surrogate") {
        return "Half of a character beyond U+FFFF (an emoji, say) stands alone in the text: cut text between characters, \
                not between UTF-16 units."
            .to_owned();
    }
    if why.contains("reject") {
        return "Refuse a client with a status from 400 to 599, a number: {\"id\":1,\"reject\":401,\"reason\":\"no token\"}. \
                Accept it with {\"id\":1}."
            .to_owned();
    }
    if why.contains("subprotocol") {
        return "Choose one of those that the key protocols of the event lists, or leave protocol out.".to_owned();
    }
    if why.contains("join") && why.contains("push") {
        return "Look at conn before you answer with join: a push has none (null).".to_owned();
    }
    if line.contains("\"channel\"") || why.contains("join") || why.contains("leave") {
        return "channel, join and leave are the name of a channel or a list of names.".to_owned();
    }
    "Write the keys of an answer with the types that its event has: message is a string, connections a list of strings."
        .to_owned()
}
