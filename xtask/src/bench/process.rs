//! One group of processes playing one measurement: started, listened to, and ended whatever happens.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Processes of one measurement. Dropping it kills those that still run.
pub(crate) struct Group {
    members: Vec<Member>,
    said: Receiver<(usize, Said)>,
    speaker: Sender<(usize, Said)>,
    deadline: Instant,
}

struct Member {
    child: Child,
    stdin: Option<ChildStdin>,
    complaint: Option<String>,
    lines: Vec<Value>,
    /// Output streams not yet at their end.
    open: u8,
}

enum Said {
    Line(Value),
    Complaint(String),
    End,
}

impl Group {
    /// An empty group that must be through within `limit`.
    pub(crate) fn new(limit: Duration) -> Group {
        let (speaker, said) = channel();
        Group { members: Vec::new(), said, speaker, deadline: Instant::now() + limit }
    }

    /// Starts `program` and returns its number.
    pub(crate) fn start(&mut self, program: &Path, args: &[String]) -> Result<usize, String> {
        let number = self.members.len();
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|why| format!("{}: {why}", program.display()))?;
        if let Some(out) = child.stdout.take() {
            self.listen(number, out, |line| serde_json::from_str(line).ok().map(Said::Line));
        }
        if let Some(err) = child.stderr.take() {
            self.listen(number, err, |line| (!line.trim().is_empty()).then(|| Said::Complaint(line.trim().to_owned())));
        }
        let stdin = child.stdin.take();
        self.members.push(Member { child, stdin, complaint: None, lines: Vec::new(), open: 2 });
        Ok(number)
    }

    /// Waits for a line of member `number` with the field `key`; fails when anybody in the group fails or time is up.
    pub(crate) fn wait_for(&mut self, number: usize, key: &str) -> Result<Value, String> {
        loop {
            if let Some(line) = self.found(number, key) {
                return Ok(line);
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok((speaker, said)) => self.hear(speaker, said)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Err(self.late()),
            }
        }
    }

    /// Says `word` to member `number`.
    pub(crate) fn tell(&mut self, number: usize, word: &str) -> Result<(), String> {
        let stdin = self.members.get_mut(number).and_then(|member| member.stdin.as_mut());
        let stdin = stdin.ok_or("a process that has ended cannot be told anything")?;
        writeln!(stdin, "{word}").and_then(|()| stdin.flush()).map_err(|why| why.to_string())
    }

    /// Lets member `number` come to its end.
    pub(crate) fn release(&mut self, number: usize) {
        if let Some(member) = self.members.get_mut(number) {
            member.stdin = None;
        }
    }

    /// Waits until member `number`, which was released, has ended.
    pub(crate) fn wait_for_end(&mut self, number: usize) -> Result<(), String> {
        let member = self.members.get_mut(number).ok_or("there is no such process")?;
        member.child.wait().map(drop).map_err(|why| why.to_string())
    }

    fn found(&mut self, number: usize, key: &str) -> Option<Value> {
        let lines = &mut self.members.get_mut(number)?.lines;
        let at = lines.iter().position(|line| line.get(key).is_some())?;
        Some(lines.remove(at))
    }

    fn hear(&mut self, speaker: usize, said: Said) -> Result<(), String> {
        let Some(member) = self.members.get_mut(speaker) else { return Ok(()) };
        match said {
            Said::Line(line) => match line.get("failed").and_then(Value::as_str) {
                Some(why) => Err(why.to_owned()),
                None => {
                    member.lines.push(line);
                    Ok(())
                }
            },
            Said::Complaint(text) => {
                // The first line of a panic or an assertion names the cause; what follows is a trace.
                member.complaint.get_or_insert(text);
                Ok(())
            }
            Said::End => {
                member.open -= 1;
                if member.open > 0 || member.stdin.is_none() {
                    return Ok(());
                }
                let status = member.child.wait().map_err(|why| why.to_string())?;
                let complaint = member.complaint.take().unwrap_or_else(|| "it said nothing".into());
                Err(format!("a process ended early ({status}): {complaint}"))
            }
        }
    }

    /// The failure of a group that is not through in time.
    fn late(&self) -> String {
        let complaints: Vec<_> = self.members.iter().filter_map(|member| member.complaint.as_deref()).collect();
        match complaints.first() {
            Some(first) => format!("no result within the time limit; it said: {first}"),
            None => "no result within the time limit (hung, or messages were lost)".into(),
        }
    }

    fn listen<F>(&self, number: usize, stream: impl std::io::Read + Send + 'static, read: F)
    where
        F: Fn(&str) -> Option<Said> + Send + 'static,
    {
        let speaker = self.speaker.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if let Some(said) = read(&line) {
                    // A group that is gone has no use for what is still said.
                    let _ = speaker.send((number, said));
                }
            }
            let _ = speaker.send((number, Said::End));
        });
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.stdin = None;
        }
        let grace = Instant::now() + Duration::from_millis(300);
        for member in &mut self.members {
            while let Ok(None) = member.child.try_wait() {
                if Instant::now() > grace {
                    // Failing means that it ended meanwhile.
                    let _ = member.child.kill();
                    let _ = member.child.wait();
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
