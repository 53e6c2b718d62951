// Does what a dashboard does, with the same kind of requests: forms, the user's cookies, and the CSRF token in the header.

const node = 'n1';
const element = (selector) => document.querySelector(selector);

function cookie(name) {
  const found = document.cookie.split('; ').find((text) => text.startsWith(`${name}=`));
  return decodeURIComponent(found?.slice(name.length + 1) ?? '');
}

async function ask(method, path, fields) {
  const response = await fetch(`/api${path}`, {
    method,
    credentials: 'include',
    headers: {
      'Content-Type': 'application/x-www-form-urlencoded',
      CSRFPreventionToken: cookie('CSRFPreventionToken'),
    },
    ...(fields === undefined ? {} : { body: new URLSearchParams(fields) }),
  });
  const answer = await response.json();
  if (response.status !== 200) throw new Error(answer.error);
  return answer;
}

async function list() {
  const { data } = await ask('GET', '/proxmox/cluster/resources');
  const guests = data.filter(({ type }) => type === 'qemu' || type === 'lxc');
  element('#guests').replaceChildren(
    ...guests.map(({ vmid, name, status }) => {
      const row = document.createElement('li');
      row.textContent = `${vmid} ${name} ${status}`;
      return row;
    }),
  );
}

async function endOf(upid) {
  for (;;) {
    const { data } = await ask('GET', `/proxmox/nodes/${node}/tasks/${upid}/status`);
    if (data.status === 'stopped') return data.exitstatus;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

const actions = {
  async 'sign-in'({ username, realm, password }) {
    await ask('POST', '/access/ticket', { username: `${username}@${realm}`, password });
    return `signed in as ${cookie('username')}`;
  },
  async create({ vmid, ...fields }) {
    await ask('POST', `/cluster/${node}/qemu/${vmid}/create`, fields);
    return `created ${vmid}`;
  },
  async resources({ vmid, ...fields }) {
    await ask('POST', `/cluster/${node}/qemu/${vmid}/resources`, fields);
    const { cores } = await ask('GET', `/cluster/${node}/qemu/${vmid}`);
    return `${vmid} has ${cores} cores`;
  },
  async start({ vmid }) {
    const { data } = await ask('POST', `/proxmox/nodes/${node}/qemu/${vmid}/status/start`, { node, vmid });
    return `started ${vmid}: ${await endOf(data)}`;
  },
  follow() {
    const socket = new WebSocket(`wss://${location.host}/api/sync/interrupt`);
    socket.addEventListener('message', ({ data }) => {
      if (data !== 'sync') return;
      element('#syncs').textContent = String(Number(element('#syncs').textContent) + 1);
      list();
    });
    socket.addEventListener('close', () => {
      element('#syncs').textContent = 'closed';
    });
    return new Promise((resolve, reject) => {
      socket.addEventListener('error', () => reject(new Error('no WebSocket')));
      socket.addEventListener('open', () => {
        socket.send('rate 1');
        resolve('following');
      });
    });
  },
  async 'sign-out'() {
    await ask('DELETE', '/access/ticket');
    return `signed out, cookies left: ${document.cookie}`;
  },
};

for (const form of document.forms) {
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    element('#said').textContent = '';
    try {
      const said = await actions[form.id](Object.fromEntries(new FormData(form)));
      if (form.id !== 'sign-out') await list();
      element('#said').textContent = said;
    } catch (error) {
      element('#said').textContent = `refused: ${error.message}`;
    }
  });
}
