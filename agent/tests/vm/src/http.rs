//! One HTTP request, without a library.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result};

/// Status code and body of a GET. HTTP/1.0: the answer comes in one piece and ends with the connection.
pub(crate) fn get(addr: SocketAddr, path: &str) -> Result<(u16, String)> {
    get_as(addr, path, "*/*")
}

/// The same of that media type.
pub(crate) fn get_as(addr: SocketAddr, path: &str, accept: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(addr).with_context(|| format!("cannot reach {addr}"))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: guest\r\nAccept: {accept}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the headers")?;
    let status = head.split(' ').nth(1).context("no status line")?.parse()?;
    Ok((status, body.to_owned()))
}

/// Sum of all series of a metric in a scrape (labels ignored).
pub(crate) fn sum(scrape: &str, metric: &str) -> f64 {
    sum_with(scrape, metric, "")
}

/// Sum of the series of a metric whose labels have that one (`name="value"`).
pub(crate) fn sum_with(scrape: &str, metric: &str, label: &str) -> f64 {
    scrape
        .lines()
        .filter_map(|line| line.strip_prefix(metric))
        .filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
