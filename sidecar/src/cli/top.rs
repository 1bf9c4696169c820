//! `koorde top`: the whole cluster in a terminal, once a second.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
};

use clap::Args;
use crossterm::{
    cursor,
    event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers},
    execute, queue,
    style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor},
    terminal::{self, ClearType},
};
use futures_util::StreamExt as _;

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
Keys: q, Esc or Ctrl-C ends it.

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
    let mut screen = Screen::open(has_colours())?;
    screen.run(&mut events).await
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
        terminal::enable_raw_mode().map_err(|error| broken(&error))?;
        let screen = Self { has_colours };
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)
            .map_err(|error| broken(&error))?;
        Ok(screen)
    }

    async fn run(&mut self, events: &mut Events) -> Result<(), Failure> {
        let mut keys = EventStream::new();
        let mut history = History::default();
        let mut snapshot = None;
        loop {
            tokio::select! {
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
        // A terminal that is gone needs no order.
        let _ = execute!(io::stdout(), cursor::Show, terminal::LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
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
