//! The other end of `cast`: what a started process knows of its role, and how it reports.

use crate::{Outcome, balance, mesh, service, words};
use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::Duration;
use wiremesh::{Context, Dealer, Endpoint, Frame, Message, Socket};

/// The first argument of a process that plays a role.
pub(crate) const FLAG: &str = "--play";

/// A process's line to the one that started it, and its place to work.
pub(crate) struct Role {
    /// What the process is called, for example `worker-2`.
    pub(crate) name: String,
    /// For the sockets of its role. The line has a context of its own and outlives it.
    pub(crate) context: Context,
    line: Dealer,
    folder: PathBuf,
    arguments: std::vec::IntoIter<OsString>,
}

/// Plays the role that the arguments name.
pub(crate) fn play(arguments: Vec<OsString>) -> Outcome {
    end_with_the_parent();
    let mut arguments = arguments.into_iter().skip(1).collect::<Vec<_>>().into_iter();
    let mut text = || arguments.next().and_then(|text| text.into_string().ok()).ok_or("a role has four arguments");
    let (part, name, desk) = (text()?, text()?, text()?);
    let folder = PathBuf::from(arguments.next().ok_or("a role has four arguments")?);
    let line = Dealer::builder().context(&Context::new()).routing_id(name.as_str()).build()?;
    line.connect(desk)?;
    let mut role = Role { name, context: Context::new(), line, folder, arguments };
    role.report("here", [""; 0])?;
    match part.as_str() {
        "publisher" => mesh::publish(&mut role),
        "subscriber" => mesh::subscribe(&mut role),
        "server" => service::serve(&mut role),
        "client" => service::ask(&mut role),
        "ventilator" => words::ventilate(&mut role),
        "counter" => words::count(&mut role),
        "sink" => words::collect(&mut role),
        "broker" => balance::share_out(&mut role),
        "worker" => balance::work(&mut role),
        _ => Err(format!("nobody plays the role `{part}`").into()),
    }
}

impl Role {
    /// The next argument, as text.
    pub(crate) fn text(&mut self) -> Outcome<String> {
        let argument = self.arguments.next().ok_or("an argument is missing")?;
        argument.into_string().map_err(|argument| format!("{argument:?} is not text").into())
    }

    /// The next argument, as a number.
    pub(crate) fn number(&mut self) -> Outcome<u64> {
        Ok(self.text()?.parse()?)
    }

    /// All further arguments.
    pub(crate) fn rest(&mut self) -> Vec<OsString> {
        self.arguments.by_ref().collect()
    }

    /// Binds a socket to a free tcp port and, where there is such a thing, to a socket file.
    pub(crate) fn bind(&self, socket: &Socket, what: &str) -> Outcome<[Endpoint; 2]> {
        let tcp = socket.bind("tcp://127.0.0.1:*")?;
        let ipc = if cfg!(unix) {
            socket.bind(format!("ipc://{}", self.folder.join(format!("{}-{what}", self.name)).display()))?
        } else {
            tcp.clone()
        };
        Ok([tcp, ipc])
    }

    /// Reports a word and what belongs to it.
    pub(crate) fn report<F: Into<Frame>>(&self, word: &str, frames: impl IntoIterator<Item = F>) -> Outcome {
        let mut report: Message = frames.into_iter().collect();
        report.push_front(word);
        Ok(self.line.send(report)?)
    }

    /// Waits for what the process that started this one has to say.
    pub(crate) fn hear(&self) -> Outcome<Message> {
        Ok(self.line.recv()?)
    }

    /// Waits until the part is over.
    pub(crate) fn wait_for_the_end(&self) -> Outcome {
        match self.hear()? {
            word if word == "stop" => Ok(()),
            other => Err(format!("{other:?} means nothing to {}", self.name).into()),
        }
    }
}

/// Nobody is left behind: when standard input ends, the process that started this one is gone.
fn end_with_the_parent() {
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        // Those that are just ending by themselves do so before this.
        thread::sleep(Duration::from_secs(1));
        std::process::exit(1);
    });
}

/// A frame that holds a number in decimal digits.
pub(crate) fn number<T: FromStr>(frame: Option<&[u8]>) -> Outcome<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    Ok(text(frame)?.parse()?)
}

/// A frame that holds text.
pub(crate) fn text(frame: Option<&[u8]>) -> Outcome<&str> {
    Ok(std::str::from_utf8(frame.ok_or("a frame is missing")?)?)
}
