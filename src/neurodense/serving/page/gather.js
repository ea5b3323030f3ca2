// From what was dropped to what is asked: a picture or a volume is one request, the DICOM files of a folder are another.

const PICTURE = /\.(jpe?g|jpe|jfif|a?png|tiff?|bmp|webp|gif)$/i;
const VOLUME = /\.(nii|nii\.gz|zip)$/i;
const DICOM = /\.(dcm|dicom|ima)$/i;

// Files with the path that they have inside of what was dropped, by the order of their names.
export async function ofDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, path: file.name }));
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

export const ofInput = (input) => [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));

async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    found.push({ file, path: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed)); // a hundred at a time
    if (!some.length) return;
    for (const one of some) await walk(one, found);
  }
}

// What is asked together: {name, files: [{file, path}], picture}. Files of a folder that are no images are passed over.
export async function units(found) {
  const asked = [], folders = new Map();
  let passed = 0;
  for (const one of found.sort((a, b) => a.path.localeCompare(b.path, undefined, { numeric: true }))) {
    const parts = one.path.split("/");
    if (parts.some((part) => part.startsWith(".")) || parts.at(-1).toUpperCase() === "DICOMDIR") {
      passed += 1;
    } else if (PICTURE.test(one.path)) {
      asked.push({ name: one.path, files: [one], picture: true });
    } else if (VOLUME.test(one.path)) {
      asked.push({ name: one.path, files: [one], picture: false });
    } else if (DICOM.test(one.path) || (await isDicom(one.file))) {
      const folder = parts.slice(0, -1).join("/");
      if (!folders.has(folder)) folders.set(folder, []);
      folders.get(folder).push(one);
    } else if (parts.length === 1) {
      asked.push({ name: one.path, files: [one], picture: false }); // named by hand: the server says what it is not
    } else {
      passed += 1;
    }
  }
  for (const [folder, files] of folders) {
    if (files.length === 1) asked.push({ name: files[0].path, files, picture: false });
    else if (folder) asked.push({ name: folder, files, picture: false });
    else asked.push({ name: `series of ${files.length} files`, files: files.map(inSeries), picture: false });
  }
  return { asked, passed };
}

const inSeries = ({ file, path }) => ({ file, path: `series/${path}` });

async function isDicom(file) {
  return (await file.slice(128, 132).text()) === "DICM";
}
