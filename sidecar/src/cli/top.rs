//! `koorde top`: the whole cluster in a terminal, once a second.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    panic,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use clap::Args;
use crossterm::{
    cursor,
    event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers},
    execute, queue,
    style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor},
    terminal::{self, ClearType},
};
use futures_util::{StreamExt as _, future};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Endpoint, Failure, client::Client, events::Events, output};

mod frame;

use frame::{Frame, History, Line, Tone};

/// Show the whole cluster in this terminal, once a second
///
/// Requests, hits, latency, origin requests, memory, members and the keys asked for most: of all
/// members, asked through one node. Rates are of the last second. Colours are left away where NO_COLOR
/// is set; without a terminal one frame is written, as with --once.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TopArgs {
    /// The admin listener of any node
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    admin: Endpoint,
    /// Write one frame and end
    #[arg(long)]
    once: bool,
    /// Write each second as a line of JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Keys: q, Esc or Ctrl-C ends it. So do SIGTERM, SIGHUP, SIGINT and SIGQUIT, with 128 and the signal's number.

Examples:
  koorde top
  koorde top --once
  koorde top --json | jq -c '[.lately.requests, .lately.hit_ratio]'
  kubectl port-forward koorde-0 9090 & koorde top";

/// Lines and columns of a frame that goes to no terminal.
const SHEET: (u16, u16) = (120, 200);

/// Shows the cluster until told to stop.
///
/// # Errors
/// No answer, or not a node's; the terminal cannot be used.
pub async fn run(args: TopArgs) -> Result<(), Failure> {
    let client = Client::for_reports()?;
    let mut events = Events::open(&client, &args.admin).await?;
    if args.json {
        return lines(&mut events, args.once).await;
    }
    if args.once || !io::stdout().is_terminal() {
        return once(&mut events).await;
    }
    // Before the terminal is anything but the shell's.
    let mut signals = Signals::listen().map_err(|error| broken(&error))?;
    let mut screen = Screen::open(has_colours())?;
    screen.run(&mut events, &mut signals).await
}

async fn lines(events: &mut Events, once: bool) -> Result<(), Failure> {
    loop {
        let snapshot = events.next().await?;
        // Rates are there from the second on.
        if once && snapshot.lately.requests.is_none() {
            continue;
        }
        output::json_line(&snapshot)?;
        if once {
            return Ok(());
        }
    }
}

async fn once(events: &mut Events) -> Result<(), Failure> {
    let mut history = History::default();
    loop {
        let snapshot = events.next().await?;
        history.add(&snapshot);
        if snapshot.lately.requests.is_some() {
            let frame = Frame {
                snapshot: &snapshot,
                history: &history,
                size: SHEET,
                is_live: false,
            };
            let text: Vec<String> = frame.lines().iter().map(Line::plain).collect();
            return output::line(text.join("\n").trim_end());
        }
    }
}

/// Whether colours are welcome (no-color.org).
#[expect(
    clippy::disallowed_methods,
    reason = "NO_COLOR belongs to the terminal, not to the configuration"
)]
fn has_colours() -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The terminal, taken over until it is dropped.
struct Screen {
    has_colours: bool,
}

fn broken(error: &io::Error) -> Failure {
    Failure::write("the terminal", error)
}

impl Screen {
    fn open(has_colours: bool) -> Result<Self, Failure> {
        restore_before_panics();
        terminal::enable_raw_mode().map_err(|error| broken(&error))?;
        IS_TAKEN.store(true, Relaxed);
        let screen = Self { has_colours };
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)
            .map_err(|error| broken(&error))?;
        Ok(screen)
    }

    async fn run(&mut self, events: &mut Events, signals: &mut Signals) -> Result<(), Failure> {
        let mut keys = EventStream::new();
        let mut history = History::default();
        let mut snapshot = None;
        loop {
            tokio::select! {
                signal = signals.next() => return Err(Failure::Signal(signal)),
                next = events.next() => {
                    let next = next?;
                    history.add(&next);
                    snapshot = Some(next);
                }
                key = keys.next() => match key {
                    Some(Ok(event)) if ends(&event) => return Ok(()),
                    // A new size, too, is drawn at once.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(broken(&error)),
                    None => return Ok(()),
                },
            }
            if let Some(snapshot) = &snapshot {
                let size = terminal::size().unwrap_or(SHEET);
                let frame = Frame {
                    snapshot,
                    history: &history,
                    size,
                    is_live: true,
                };
                self.draw(&frame.lines()).map_err(|error| broken(&error))?;
            }
        }
    }

    fn draw(&self, lines: &[Line]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for (line, row) in lines.iter().zip(0_u16..) {
            queue!(out, cursor::MoveTo(0, row))?;
            for (tone, text) in &line.0 {
                self.style(&mut out, *tone)?;
                queue!(out, Print(text), SetAttribute(Attribute::Reset), ResetColor)?;
            }
            queue!(out, terminal::Clear(ClearType::UntilNewLine))?;
        }
        queue!(out, terminal::Clear(ClearType::FromCursorDown))?;
        out.flush()
    }

    fn style(&self, out: &mut impl io::Write, tone: Tone) -> io::Result<()> {
        match tone {
            Tone::Plain => return Ok(()),
            Tone::Strong => queue!(out, SetAttribute(Attribute::Bold))?,
            Tone::Soft => queue!(out, SetAttribute(Attribute::Dim))?,
            Tone::Good | Tone::Warn | Tone::Bad => {}
        }
        let colour = match tone {
            Tone::Good => Color::Green,
            Tone::Warn => Color::Yellow,
            Tone::Bad => Color::Red,
            Tone::Plain | Tone::Strong | Tone::Soft => return Ok(()),
        };
        if self.has_colours {
            queue!(out, SetForegroundColor(colour))?;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Whether the terminal is to be given back.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back, once: a second time would move the cursor into what was written since.
fn restore() {
    if IS_TAKEN.swap(false, Relaxed) {
        // A terminal that is gone needs no order.
        let _ = execute!(io::stdout(), cursor::Show, terminal::LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// A panic of this thread gives the terminal back before it says anything: what is written to the other
/// screen goes with it. One of another thread is a connection's, which the screen outlives and tells.
fn restore_before_panics() {
    let (before, screen) = (panic::take_hook(), thread::current().id());
    panic::set_hook(Box::new(move |panic| {
        if thread::current().id() == screen {
            restore();
        }
        before(panic);
    }));
}

/// The signals that ask a program to end. From when they are listened to they end nothing by themselves.
struct Signals {
    all: [(Signal, SignalKind); 4],
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let one = |kind| Ok::<_, io::Error>((signal(kind)?, kind));
        let all = [
            one(SignalKind::hangup())?,
            one(SignalKind::interrupt())?,
            one(SignalKind::quit())?,
            one(SignalKind::terminate())?,
        ];
        Ok(Self { all })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        let all = self.all.iter_mut().map(|(signal, kind)| {
            Box::pin(async {
                signal.recv().await;
                u8::try_from(kind.as_raw_value()).unwrap_or_default()
            })
        });
        future::select_all(all).await.0
    }
}

fn ends(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Char('q') | KeyCode::Esc => true,
            KeyCode::Char('c') => is_control,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Part of the next test, which gives it a terminal.
    #[test]
    #[should_panic(expected = "on purpose")]
    fn it_panics_with_the_screen_open() {
        let _screen = Screen::open(false);
        panic!("on purpose");
    }

    #[test]
    fn a_panic_gives_the_terminal_back_and_is_seen() {
        let me = env::current_exe().expect("a test has a path");
        let script = include_str!("../../tests/support/terminal.py");
        let mut terminal = Command::new("python3");
        terminal.args(["-c", script, "wait"]).arg(me);
        terminal.args(["--exact", "--nocapture"]);
        terminal.arg("cli::top::tests::it_panics_with_the_screen_open");
        let told = terminal.output().expect("Python runs");
        assert!(told.status.success(), "{told:?}");
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
        assert_eq!(told["was_taken"], true, "{told}");
        assert_eq!(told["is_given_back"], true, "{told}");
        let after = told["after"].as_str().expect("text");
        assert!(after.contains("on purpose"), "{told}");
        assert!(after.contains("1 passed"), "{told}");
    }
}
